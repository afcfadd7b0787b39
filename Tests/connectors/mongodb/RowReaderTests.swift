import Testing
import WeirCore
import WeirMongoDBClient
import WeirTesting

@testable import WeirMongoDBSource

extension MongoSourceTests {
    /// Documents as they are now, beside the stream.
    @Suite struct RowReaders {
        private func name(_ database: TestDatabase, _ collection: String = "t") -> TableName {
            TableName(schema: database.name, name: collection)
        }

        private func changes(_ batch: EventBatch) throws -> [Change] {
            #expect(batch.resume == nil && batch.end == nil)
            return try batch.events.map { try Change($0, in: batch) }
        }

        private func scan(_ reader: any RowReader) async throws -> [Change] {
            var all: [Change] = []
            while let batch = try await reader.next() { all += try changes(batch) }
            return all
        }

        @Test("CORRECTNESS 59: documents by their keys, whatever type the keys are of")
        func rows() async throws {
            let database = try await TestDatabase()
            for id in Keys.all { try await database.insert(#"{"_id": \#(id), "a": 1}"#) }
            let source = try await SourceHarness.open(database)
            try await database.update("{}", #"{"$set": {"a": 2}}"#, .many)
            var keys: [[[UInt8]]] = []
            _ = try await source.read(until: "all updates") { source, _ in
                keys += source.batch.events.map { event in
                    let key = source.batch.values[Int(event.key.start)]
                    return [Array(source.batch.arena[key.bytes.range])]
                }
                return keys.count == Keys.all.count
            }
            let schema = try #require(source.batch.tables.first)
            let reader = try source.makeRowReader()
            let batch = try await reader.rows(of: schema, keys: keys, showing: [])
            #expect(batch.tables == [schema])
            let found = try changes(batch)
            #expect(Set(found.map(\.key)) == Set(keys.map { json($0[0]) }))
            #expect(
                found.allSatisfy {
                    $0.operation == .read && $0.after?.hasSuffix(#","a":2}"#) == true
                })
            // One that is gone is missing.
            try await database.delete(#"{"_id": "text"}"#)
            let rest = try await reader.rows(of: schema, keys: keys, showing: [])
            #expect(rest.events.count == keys.count - 1)
            await reader.close()
            await reader.close()
            // Closed, it connects again.
            let again = try await reader.rows(of: schema, keys: [keys[0]], showing: [])
            #expect(try changes(again).map(\.key) == [json(keys[0][0])])
            await reader.close()
        }

        @Test("CORRECTNESS 59: what is read is not older than the stream, whichever is primary now")
        func neverOlder() async throws {
            let database = try await TestDatabase()
            try await database.insert(#"{"_id": 1}"#)
            let source = try await SourceHarness.open(database)
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": 1}}"#)
            _ = try await source.drain()
            let event = try #require(source.batch.events.last)
            try await database.run(#"{"profile": 2}"#)
            let reader = try source.makeRowReader()
            let key = source.batch.values[Int(event.key.start)].bytes
            _ = try await reader.rows(
                of: try #require(source.batch.tables.first),
                keys: [[Array(source.batch.arena[key.range])]], showing: [])
            try await reader.scan(name(database), showing: [])
            #expect(try await scan(reader).count == 1)
            try await database.run(#"{"profile": 0}"#)
            let time =
                #"{"$timestamp": {"t": \#(event.commit >> 32), "i": \#(event.commit & 0xFFFF_FFFF)}}"#
            let waits = try await database.shell.count(
                """
                {"command.find": "t", "command.readConcern.level": "majority",
                "command.readConcern.afterClusterTime": {"$gte": \(time)}}
                """, in: database.path("system.profile"))
            #expect(waits == 1, "once for both")
            await reader.close()
        }

        @Test func aScanThatIsLeftEndsItsCursor() async throws {
            let database = try await TestDatabase()
            try await database.shell.insert(count: 3000, into: database.path("t")) {
                #"{"_id": \#($0)}"#
            }
            let reader = try SourceHarness(database).makeRowReader()
            let open =
                #"{"aggregate": 1, "cursor": {}, "pipeline": [{"$currentOp": {"idleCursors": "#
                + #"true, "allUsers": true}}, {"$match": {"ns": "\#(database.path("t"))", "#
                + #""type": "idleCursor"}}]}"#
            try await reader.scan(name(database), showing: [])
            #expect(try await database.shell.run(open).contains("idleCursor"))
            await reader.close()
            #expect(try await !database.shell.run(open).contains("idleCursor"))
        }

        @Test func aScanHasEveryDocumentOnce() async throws {
            let database = try await TestDatabase()
            try await database.shell.insert(count: 5003, into: database.path("t")) {
                #"{"_id": \#($0), "a": "x"}"#
            }
            try await database.insert(#"{"_id": 1}"#, into: "u")
            let source = try SourceHarness(database)
            let reader = try source.makeRowReader()
            try await reader.scan(name(database), showing: [])
            let all = try await scan(reader)
            #expect(all.ids == (0..<5003).map { "\($0)" })
            #expect(all[7].description == #"read t {"_id":7} + {"_id":7,"a":"x"}"#)
            #expect(try await reader.next() == nil)
            // Others, and one that does not exist.
            try await reader.scan(name(database, "u"), showing: [])
            #expect(try await scan(reader).texts == [#"read u {"_id":1} + {"_id":1}"#])
            try await reader.scan(name(database, "none"), showing: [])
            #expect(try await scan(reader).isEmpty)
            // One is left in the middle for another.
            try await reader.scan(name(database), showing: [])
            _ = try await reader.next()
            try await reader.scan(name(database), showing: [])
            #expect(try await scan(reader).count == 5003)
            await reader.close()
        }

        /// Sinks keep what they have worked out for a table by its version.
        @Test func scansHaveVersionsOfTheirOwn() async throws {
            let database = try await TestDatabase()
            for collection in ["t", "u"] {
                try await database.insert(#"{"_id": 1}"#, into: collection)
            }
            let source = try await SourceHarness.open(database)
            try await database.insert(#"{"_id": 2}"#)
            try await source.readBatch(within: .seconds(5))
            var versions = source.batch.tables.map(\.version)
            #expect(versions.count == 1)
            let reader = try source.makeRowReader()
            for collection in ["t", "u"] {
                try await reader.scan(name(database, collection), showing: [])
                versions += try #require(try await reader.next()).tables.map(\.version)
            }
            #expect(Set(versions).count == 3)
            await reader.close()
        }

        @Test func aScanThatIsCutShortNeverLooksComplete() async throws {
            let database = try await TestDatabase()
            try await database.shell.insert(count: 3000, into: database.path("t")) {
                #"{"_id": \#($0)}"#
            }
            let source = try SourceHarness(database)
            let reader = try source.makeRowReader()
            let early = try await #require(throws: WeirError.self) { try await reader.next() }
            #expect(early.disposition == .transient)

            try await reader.scan(name(database), showing: [])
            _ = try await reader.next()
            try await database.shell.failCommand(
                """
                {"failCommands": ["getMore"], "appName": "weir \(database.pipeline) rows",
                "closeConnection": true}
                """, times: 1)
            let error = try await #require(throws: WeirError.self) {
                while try await reader.next() != nil {}
            }
            #expect(error.code.name == "mongodb.connection_failed")
            #expect(error.disposition == .transient)
            let after = try await #require(throws: WeirError.self) { try await reader.next() }
            #expect(after.disposition == .transient)

            // Rows may be asked for meanwhile, also in vain.
            try await reader.scan(name(database), showing: [])
            let first = try #require(try await reader.next())
            let key = BSONWriter.document { $0.append("_id", int32: 2999) }
            let row = try await reader.rows(of: first.tables[0], keys: [[key]], showing: [])
            #expect(row.events.count == 1)
            try await database.shell.failCommand(
                """
                {"failCommands": ["find"], "appName": "weir \(database.pipeline) rows",
                "errorCode": 13}
                """, times: 1)
            let refused = try await #require(throws: WeirError.self) {
                try await reader.rows(of: first.tables[0], keys: [[key]], showing: [])
            }
            #expect(refused.code.name == "mongodb.permission")
            #expect(refused.disposition == .blocked)
            #expect(try await first.events.count + scan(reader).count == 3000)
            await reader.close()
        }
    }
}
