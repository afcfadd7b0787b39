import Testing
import WeirCore

struct NameTests {
    @Test(arguments: [
        ("products", "public", "products"), ("shop.products", "shop", "products"),
        (#"public."odd.name""#, "public", "odd.name"), (#""a""b"."c d""#, "a\"b", "c d"),
        ("Schéma.テーブル", "Schéma", "テーブル"),
    ])
    func aTableNameIsReadAsItIsWritten(text: String, schema: String, name: String) {
        #expect(TableName(parsing: text) == TableName(schema: schema, name: name))
    }

    @Test(arguments: [
        "", ".", "a.", ".a", "a.b.c", "a b", #""a"#, #"a"b"#, #""a"b"#, "a\0b", "a. b", #""""#,
    ])
    func whatIsNoTableNameIsRefused(text: String) {
        #expect(TableName(parsing: text) == nil)
    }

    @Test(arguments: [
        TableName(schema: "public", name: "a"), TableName(schema: "a.b", name: "c\"d"),
        TableName(schema: "x y", name: "😀"),
    ])
    func aTableNameIsWrittenSoThatItReadsBack(table: TableName) {
        #expect(TableName(parsing: table.description) == table)
    }

    @Test func theNearestNameIsFoundAndAFarOneIsNot() {
        let names = ["snapshot", "tables", "slot", "publication"]
        #expect(names.nearest(to: "snapshoot") == "snapshot")
        #expect(names.nearest(to: "TABELS") == "tables")
        #expect(names.nearest(to: "solt") == "slot")
        #expect(names.nearest(to: "zzzzzz") == nil)
        #expect([String]().nearest(to: "a") == nil)
        #expect(["a"].nearest(to: "") == "a")
    }
}

struct RoutingTests {
    private let orders = TableSchema(
        version: 1, database: "d", schema: "public", name: "orders", columns: [], key: [])
    private let messages = TableSchema.messages(version: 0, database: "d")

    @Test func withoutKeysEverythingIsTaken() {
        for operation in Operation.allCases {
            #expect(Routing().takes(operation, of: operation == .message ? messages : orders))
        }
    }

    @Test func tablesAndOperationsNarrowIt() {
        let routing = Routing(
            tables: [TableName(schema: "public", name: "orders")], operations: [.insert, .delete])
        #expect(routing.takes(.insert, of: orders))
        #expect(!routing.takes(.update, of: orders))
        let other = TableSchema(
            version: 2, database: "d", schema: "public", name: "x", columns: [], key: [])
        #expect(!routing.takes(.insert, of: other))
    }

    @Test func aSinkWithTablesTakesMessagesOnlyWhenItNamesThem() {
        let tables: Set<TableName> = [TableName(schema: "public", name: "orders")]
        #expect(!Routing(tables: tables).takes(.message, of: messages))
        #expect(
            Routing(tables: tables, operations: [.insert, .message]).takes(.message, of: messages))
    }

    @Test func anUnknownTableIsAnIssueThatNamesTheNearest() {
        let scope = ConfigScope(
            pipeline: "p", name: "s",
            values: ConfigValues([
                "tables": .list([.table(TableName(schema: "public", name: "order"))])
            ]),
            sourceTables: [TableName(schema: "public", name: "orders")])
        do {
            _ = try Routing(scope)
            Issue.record("an unknown table was taken")
        } catch {
            #expect(error.field == "tables")
            #expect(error.index == 0)
            #expect(error.suggestion == "public.orders")
        }
    }
}

struct ByteReaderTests {
    /// What `read` gives, or nil when it refuses.
    private func reading<R>(
        _ bytes: [UInt8], _ read: (inout ByteReader) throws(MalformedBytes) -> R
    ) -> R? {
        unsafe bytes.withUnsafeBytes { raw -> R? in
            var reader = unsafe ByteReader(raw)
            return try? read(&reader)
        }
    }

    @Test func readsAreBigEndianAndChecked() {
        let bytes: [UInt8] = [0x01, 0x02, 0x03, 0x04, 0x61, 0x62, 0x00, 0xFF]
        #expect(
            reading(bytes) { (r) throws(MalformedBytes) in try r.readInteger(UInt32.self) }
                == 0x0102_0304)
        let text = reading(bytes) { (reader) throws(MalformedBytes) in
            _ = try reader.skip(4)
            return try reader.readCString()
        }
        #expect(text == "ab")
        #expect(reading(bytes) { (r) throws(MalformedBytes) in try r.skip(9) } == nil)
        #expect(reading(bytes) { (r) throws(MalformedBytes) in try r.skip(-1) } == nil)
        #expect(reading([]) { (r) throws(MalformedBytes) in try r.readByte() } == nil)
    }

    @Test func aStringWithoutItsEndIsRefused() {
        #expect(reading([0x61, 0x62]) { (r) throws(MalformedBytes) in try r.readCString() } == nil)
    }
}
