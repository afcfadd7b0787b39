import Testing
import WeirCore
import WeirTesting

extension MongoSourceTests {
    /// Keys are whatever documents have as `_id`.
    @Suite struct Keys {
        /// As Extended JSON, each of a type of its own. A server refuses arrays, regular
        /// expressions and undefined.
        static let all = [
            #"{"$numberDouble": "1.5"}"#, #"{"$numberDouble": "NaN"}"#,
            #"{"$numberDouble": "-0.0"}"#, #""text""#, #""""#, #"{"b": 1, "a": 2}"#,
            #"{"a": 2, "b": 1}"#, "{}", #"{"a": {"$date": {"$numberLong": "0"}}, "b": [1, {}]}"#,
            #"{"$binary": {"base64": "AP8=", "subType": "00"}}"#,
            #"{"$binary": {"base64": "AAAAAAAAAAAAAAAAAAAAAA==", "subType": "04"}}"#,
            #"{"$oid": "6b018fe0000000000000000a"}"#, "true", "false",
            #"{"$date": {"$numberLong": "-1"}}"#, "null", #"{"$symbol": "s"}"#,
            #"{"$code": "f()"}"#, #"{"$code": "f()", "$scope": {"x": 1}}"#,
            #"{"$dbPointer": {"$ref": "c", "$id": {"$oid": "6b018fe0000000000000000b"}}}"#,
            #"{"$numberInt": "7"}"#, #"{"$timestamp": {"t": 1, "i": 2}}"#,
            #"{"$numberLong": "9223372036854775807"}"#, #"{"$numberDecimal": "2.50"}"#,
            #"{"$minKey": 1}"#, #"{"$maxKey": 1}"#,
        ]

        @Test(
            "CORRECTNESS 59: a delete has the key, and every type may be one",
            arguments: [true, false])
        func everyType(hasImages: Bool) async throws {
            let database = try await TestDatabase()
            if hasImages { try await database.createWithImages() }
            let source = try await SourceHarness.open(database)
            for id in Self.all { try await database.insert(#"{"_id": \#(id)}"#) }
            let keys = try await database.shell.findBSON(
                in: database.path("t"), sort: #"{"$natural": 1}"#
            ).map { json($0) }
            #expect(Set(keys).count == Self.all.count)
            try await database.update("{}", #"{"$set": {"a": 1}}"#, .many)
            let changed = try await source.drain()
            #expect(changed.map(\.key) == keys + keys)
            #expect(
                changed.suffix(keys.count).texts
                    == keys.map { key in
                        let after = key.dropLast() + #","a":1}"#
                        return hasImages
                            ? "update t \(key) - \(key) + \(after)"
                            : "update t \(key) + \(after), late"
                    })
            #expect(changed.allSatisfy { !$0.isGone })
            try await database.shell.delete("{}", from: database.path("t"), many: true)
            let deleted = try await source.drain()
            #expect(deleted.map(\.key) == keys)
            #expect(deleted.allSatisfy { $0.operation == .delete && $0.after == nil })
            #expect(deleted.allSatisfy { ($0.before != nil) == hasImages })
        }

        @Test("CORRECTNESS 58, 59: a key that compares equal and is another is no match")
        func equalKeys() async throws {
            let database = try await TestDatabase()
            try await database.insert(#"{"_id": {"$numberInt": "1"}}"#)
            let source = try await SourceHarness.open(database)
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": 1}}"#)
            try await database.delete(#"{"_id": 1}"#)
            try await database.insert(#"{"_id": {"$numberDouble": "1.0"}}"#)
            #expect(
                try await source.drain().texts == [
                    #"update t {"_id":1}, gone"#, #"delete t {"_id":1}"#,
                    #"insert t {"_id":1.0} + {"_id":1.0}"#,
                ])
        }

        @Test("CORRECTNESS 58, 59: a collection's own order of texts finds the right documents")
        func collation() async throws {
            let database = try await TestDatabase()
            try await database.run(
                #"{"create": "t", "collation": {"locale": "en", "strength": 1}}"#)
            try await database.insert(#"{"_id": "É"}"#, #"{"_id": "f"}"#)
            let source = try await SourceHarness.open(database)
            try await database.update("{}", #"{"$set": {"a": 1}}"#, .many)
            #expect(
                try await source.drain().texts == [
                    #"update t {"_id":"É"} + {"_id":"É","a":1}, late"#,
                    #"update t {"_id":"f"} + {"_id":"f","a":1}, late"#,
                ])
        }
    }
}
