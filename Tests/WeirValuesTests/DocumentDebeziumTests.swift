import Testing
import WeirCore
import WeirJSON
import WeirTesting
import WeirValues

private let key: [UInt8] = bson([("_id", 7)])
private let article: [UInt8] = bson([("_id", 7), ("title", "a\"b")])
private let articleText = #""{\"_id\":7,\"title\":\"a\\\"b\"}""#
private let times =
    #""ts_ms":1795226584123,"ts_us":1795226584123000,"ts_ns":1795226584123000000"#

private func record(
    _ operation: String,
    before: String = "null",
    after: String = "null",
    changes: String = "null",
    snapshot: String = "false",
    transaction: String = #""lsid":null,"txnNumber":null"#
) -> String {
    #"{"before":\#(before),"after":\#(after),"updateDescription":\#(changes),"#
        + #""source":{"version":"weir","connector":"mongodb","name":"shop",\#(times),"#
        + #""snapshot":"\#(snapshot)","db":"cms","sequence":null,"collection":"articles","#
        + #""ord":3,\#(transaction),"wallTime":1795226584123},"#
        + #""op":"\#(operation)",\#(times),"transaction":null}"#
}

/// Documents in Debezium's envelope.
struct DocumentDebeziumTests {
    @Test func documentsAreStrings() throws {
        #expect(
            try documentLines(.debezium, .insert, key: key, after: .document(article))
                == [record("c", after: articleText)])
        #expect(
            try documentLines(.debezium, .read, key: key, after: .document(article))
                == [record("r", after: articleText, snapshot: "true")])
        #expect(
            try documentLines(
                .debezium, .insert, key: key, after: .document(article), mode: .canonical)
                == [
                    record(
                        "c",
                        after: #""{\"_id\":{\"$numberInt\":\"7\"},\"title\":\"a\\\"b\"}""#)
                ])
    }

    @Test func anUpdateTellsWhatItChanged() throws {
        let changes: [(String, DocumentValue)] = [
            ("updatedFields", .document([("a.b", "x\"")])), ("removedFields", .array(["c", "d"])),
            ("truncatedArrays", .array([.document([("field", "tags"), ("newSize", 2)])])),
        ]
        #expect(
            try documentLines(
                .debezium, .update, key: key, before: .document(key), after: .document(article),
                changes: changes)
                == [
                    record(
                        "u", before: #""{\"_id\":7}""#, after: articleText,
                        changes:
                            #"{"removedFields":["c","d"],"updatedFields":"{\"a.b\":\"x\\\"\"}","#
                            + #""truncatedArrays":[{"field":"tags","size":2}]}"#)
                ])
        #expect(
            try documentLines(
                .debezium, .update, flags: Event.rowGone, key: key,
                changes: [("updatedFields", .document([])), ("removedFields", .array([]))])
                == [
                    record(
                        "u",
                        changes:
                            #"{"removedFields":null,"updatedFields":"{}","truncatedArrays":null}"#)
                ])
        #expect(
            try documentLines(
                .debezium, .update, key: key, after: .document(article), changes: [])
                == [
                    record(
                        "u", after: articleText,
                        changes:
                            #"{"removedFields":null,"updatedFields":null,"truncatedArrays":null}"#)
                ])
    }

    @Test func aDeleteHasItsKeyAndATombstone() throws {
        #expect(
            try documentLines(
                .debezium, .delete, flags: Event.beforeIsKey, key: key, before: .documentKey(key))
                == [record("d", before: #""{\"_id\":7}""#), "null"])
        #expect(
            try documentLines(.debezium, .delete, key: key, before: .document(article))
                == [record("d", before: articleText), "null"])
    }

    @Test func aDroppedCollectionIsEmptied() throws {
        #expect(
            try documentLines(.debezium, .truncate, flags: Event.dropped) == [record("t")])
    }

    @Test func aTransactionIsNamed() throws {
        #expect(
            try documentLines(
                .debezium, .insert, key: key, after: .document(article), transaction: "0a1b:12")
                == [
                    record(
                        "c", after: articleText,
                        transaction: #""lsid":"0a1b","txnNumber":12"#)
                ])
    }

    @Test func chosenColumnsAreAStringToo() throws {
        #expect(
            try documentLines(
                .debezium, .insert, key: key, after: .document(article),
                columns: [
                    ColumnChoice(output: "t", source: "title"),
                    ColumnChoice(output: "x", source: "none"),
                ])
                == [record("c", after: #""{\"t\":\"a\\\"b\"}""#)])
    }

    /// The memory of a huge one is given back; the next is not changed by that.
    @Test func aHugeDocumentIsFollowedByASmallOne() throws {
        var batch = TestBatch()
        let huge = [UInt8](repeating: UInt8(ascii: "a"), count: 2 << 20)
        batch.addDocument(.insert, key: key, after: .document(bson([("t", .text(huge))])))
        batch.addDocument(.insert, key: key, after: .document(article))
        let found = try lines(.debezium, batch.seal(), kind: "mongodb")
        #expect(found.count == 2)
        #expect(found[0].utf8.count > 2 << 20)
        #expect(found[1] == record("c", after: articleText))
    }
}
