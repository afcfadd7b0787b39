import Testing
import WeirValues

struct BSONPathTests {
    private func find(_ path: String..., in bytes: [UInt8]) -> String? {
        let fenced = FencedBytes(bytes)
        let found = unsafe BSONPath.find(path.map { Array($0.utf8) }, in: fenced.bytes)
        guard let (type, value) = unsafe found else { return nil }
        return plainText(type, unsafe Array(value), .plain)
    }

    private func text(_ name: String, _ value: String) -> [UInt8] {
        element(.string, name, stringValue(value))
    }

    @Test func goesDownNamesAndPlaces() {
        let items = document([
            text("7", "first"), element(.document, "7", document([text("sku", "A-1")])),
        ])
        let bytes = document([
            text("a.b", "dotted"), text("", "empty"), element(.array, "items", items),
            element(.document, "items2", document([text("0", "named")])),
        ])
        #expect(find("a.b", in: bytes) == "dotted")
        #expect(find("", in: bytes) == "empty")
        #expect(find("items", "0", in: bytes) == "first")
        #expect(find("items", "1", "sku", in: bytes) == "A-1")
        #expect(find("items2", "0", in: bytes) == "named")
        for missing in [
            ["items", "2"], ["items", "7"], ["items", "-1"], ["items", "x"], ["no"],
        ] {
            let fenced = FencedBytes(bytes)
            #expect(
                unsafe BSONPath.find(missing.map { Array($0.utf8) }, in: fenced.bytes) == nil)
        }
        #expect(find("a.b", "0", in: bytes) == nil)
        #expect(find("items", "0", "sku", in: bytes) == nil)
    }

    @Test func theLastOfOneNameCounts() {
        let bytes = document([text("a", "1"), text("b", "2"), text("a", "3")])
        #expect(find("a", in: bytes) == "3")
    }

    @Test func theEmptyPathIsTheDocument() {
        #expect(find(in: document([text("a", "1")])) == #"{"a":"1"}"#)
    }
}
