import Testing
import WeirCore
import WeirJSON
import WeirTesting
import WeirValues

struct RowLineTests {
    @Test(arguments: [WeirCore.Operation.insert, .update, .read])
    func theRowIsTheLine(operation: WeirCore.Operation) throws {
        #expect(
            try lines(.row, operation, after: ["7", nil, "NaN", .unchanged])
                == [#"{"id":7,"note":null,"total":"NaN"}"#]
        )
    }

    @Test func whatLeavesNoRowIsFiltered() throws {
        var batch = TestBatch()
        batch.add(.delete, before: ["7", nil, nil, nil])
        batch.add(.truncate)
        batch.add(.insert, after: ["7", nil, nil, nil])
        batch.add(.message, .messages(version: 3, database: "shop"), after: ["p", "c"])
        let sealed = batch.seal()
        var encoder = LineEncoder(
            format: .row,
            sourceKind: "postgres",
            sourceName: "shop", notation: .numbers,
            routing: Routing()
        )
        var writer = JSONWriter()
        let counts = try encoder.encode(sealed, into: &writer)
        #expect(counts.delivered == 1)
        #expect(counts.filtered == 3)
        let text = writer.text
        #expect(text == #"{"id":7,"note":null,"total":null,"at":null}"# + "\n")
    }
}
