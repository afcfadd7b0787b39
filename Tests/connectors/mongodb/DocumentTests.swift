import Testing
import WeirCore
import WeirMongoDBClient
import WeirTesting

extension MongoSourceTests {
    /// Documents arrive as they were written, whatever is in them.
    @Suite struct Documents {
        /// One member as bytes: its type, its name, its value.
        private static func member(_ type: UInt8, _ name: [UInt8], _ value: [UInt8]) -> [UInt8] {
            [type] + name + [0] + value
        }

        /// A document of these members, with an `_id` before them.
        private static func document(_ id: Int32, _ members: [[UInt8]]) -> [UInt8] {
            let body =
                member(0x10, Array("_id".utf8), littleEndian(id)) + members.flatMap(\.self)
            return littleEndian(Int32(body.count + 5)) + body + [0]
        }

        private static func littleEndian(_ number: Int32) -> [UInt8] {
            (0..<4).map { UInt8(truncatingIfNeeded: number >> ($0 * 8)) }
        }

        private static func text(_ bytes: [UInt8]) -> [UInt8] {
            littleEndian(Int32(bytes.count + 1)) + bytes + [0]
        }

        private static func nested(_ depth: Int) -> [UInt8] {
            (0..<depth).reduce([5, 0, 0, 0, 0]) { inner, _ in
                let body = member(0x03, [0x64], inner)
                return littleEndian(Int32(body.count + 5)) + body + [0]
            }
        }

        private static let name: [UInt8] = [0x76]
        private static let oid: [UInt8] = Array(1...12)
        private static let empty: [UInt8] = [5, 0, 0, 0, 0]

        /// Every type, and values of them that a careless reader changes.
        private static let members: [[[UInt8]]] = {
            var all: [[[UInt8]]] = []
            func add(_ type: UInt8, _ values: [[UInt8]]) {
                all += values.map { [member(type, name, $0)] }
            }
            // Doubles: a NaN with a payload, one that signals, -0, infinity, the smallest.
            add(
                0x01,
                [
                    [0x12, 0, 0, 0, 0, 0, 0xF8, 0x7F], [1, 0, 0, 0, 0, 0, 0xF0, 0x7F],
                    [0, 0, 0, 0, 0, 0, 0, 0x80], [0, 0, 0, 0, 0, 0, 0xF0, 0xFF],
                    [1, 0, 0, 0, 0, 0, 0, 0],
                ])
            add(
                0x02,
                [
                    text([]), text([0]), text([0x61, 0, 0x62]), text(Array("é\u{1F600}".utf8)),
                    // No UTF-8.
                    text([0xFF]), text([0xC3]), text([0xED, 0xA0, 0x80]), text([0xC0, 0x80]),
                ])
            add(0x03, [empty, nested(1)])
            // An array that says other indexes than it has.
            let odd = member(0x08, [0x37], [1]) + member(0x08, [], [0])
            add(0x04, [empty, littleEndian(Int32(odd.count + 5)) + odd + [0]])
            for subtype in [0, 1, 3, 4, 5, 6, 7, 8, 9, 0x80, 0xFF] as [UInt8] {
                add(0x05, [littleEndian(16) + [subtype] + [UInt8](repeating: 0xAB, count: 16)])
            }
            // The old kind of binary has its length twice.
            add(0x05, [littleEndian(0) + [0], littleEndian(6) + [2] + littleEndian(2) + [1, 2]])
            add(0x06, [[]])
            add(0x07, [oid])
            add(0x08, [[0], [1]])
            let longs: [[UInt8]] = [
                [0, 0, 0, 0, 0, 0, 0, 0x80], [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
                [UInt8](repeating: 0xFF, count: 8),
            ]
            add(0x09, longs)
            add(0x0A, [[]])
            add(0x0B, [[0x61, 0] + [0x69, 0x6D, 0], [0, 0], [0x2F, 0, 0x78, 0x69, 0]])
            add(0x0C, [text([0x63]) + oid])
            add(0x0D, [text(Array("f()".utf8))])
            add(0x0E, [text(Array("s".utf8))])
            let code = text(Array("f()".utf8)) + nested(1)
            add(0x0F, [littleEndian(Int32(code.count + 4)) + code])
            add(0x10, [[0, 0, 0, 0x80]])
            add(0x11, [[UInt8](repeating: 0xFF, count: 8), [1, 0, 0, 0, 2, 0, 0, 0]])
            add(0x12, longs)
            // Decimals: NaN, one that signals, -0E+3, infinity, one that is not canonical.
            add(
                0x13,
                [
                    [UInt8](repeating: 0, count: 15) + [0x7C],
                    [UInt8](repeating: 0, count: 15) + [0x7E],
                    [UInt8](repeating: 0, count: 14) + [0x46, 0xB0],
                    [UInt8](repeating: 0, count: 15) + [0xF8],
                    [UInt8](repeating: 0xFF, count: 14) + [0x6C, 0x60],
                ])
            add(0x7F, [[]])
            add(0xFF, [[]])
            // Names: empty, with a dot, like a number, no UTF-8; and the same one twice.
            for name in [[], [0x61, 0x2E, 0x62], [0x30], [0xFF, 0xFE]] as [[UInt8]] {
                all.append([member(0x08, name, [1])])
            }
            all.append([
                member(0x10, name, [1, 0, 0, 0]), member(0x08, name, [1]),
                member(0x10, name, [2, 0, 0, 0]),
            ])
            all.append([member(0x03, name, nested(100))])
            // As deep as a server takes.
            all.append([member(0x03, name, nested(178))])
            all.append([
                member(
                    0x05, name,
                    littleEndian(2_000_000) + [0] + [UInt8](repeating: 7, count: 2_000_000))
            ])
            return all
        }()

        @Test(
            "CORRECTNESS 65: documents arrive byte for byte, with and without images",
            arguments: [true, false])
        func byteForByte(hasImages: Bool) async throws {
            let database = try await TestDatabase()
            if hasImages { try await database.createWithImages() }
            let source = try await SourceHarness.open(database)
            let documents = Self.members.enumerated().map {
                Self.document(Int32($0), $1)
            }
            for document in documents {
                try await database.shell.insert(bson: [document], into: database.path("t"))
            }
            // The server keeps what it is given, but for timestamps of zero, which are not here.
            #expect(try await database.shell.findBSON(in: database.path("t")) == documents)
            let inserted = try await source.read(documents.count)
            for (change, document) in zip(inserted, documents) {
                #expect(change.document == document, "\(change.key ?? "")")
            }
            // Those an update leaves as they are: looked up, or put together by the server.
            try await database.update("{}", #"{"$set": {"z": 1}}"#, .many)
            let updated = try await source.read(documents.count)
            for (change, document) in zip(updated, documents) {
                let suffix = Self.member(0x10, [0x7A], [1, 0, 0, 0])
                let expected =
                    Self.littleEndian(Int32(document.count + suffix.count))
                    + document[4..<(document.count - 1)] + suffix + [0]
                #expect(change.document == expected, "\(change.key ?? "")")
                #expect(change.isLate == !hasImages)
                if hasImages { #expect(change.before != nil) }
            }
            #expect(updated.count == documents.count)
        }

        @Test("CORRECTNESS 65: names of collections and databases come through as they are")
        func names() async throws {
            let database = try await TestDatabase()
            let names = ["a.b", "ö 😀", "with\"quotes\"", "{}", "-", "a\u{1}b", "system", "drop"]
            let source = try await SourceHarness.open(database, nil)
            for name in names { try await database.insert(#"{"_id": 1}"#, into: name) }
            #expect(try await source.read(names.count).map(\.table.name) == names)
            let chosen = try await SourceHarness.open(database, ["a.b", "ö 😀"])
            for name in names { try await database.insert(#"{"_id": 2}"#, into: name) }
            #expect(try await chosen.drain().map(\.table.name) == ["a.b", "ö 😀"])
        }
    }
}
