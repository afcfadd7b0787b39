import Testing
import WeirCore
import WeirTesting

@testable import WeirMongoDBSource

extension MongoSourceTests {
    /// What is followed may change between two runs.
    @Suite struct Scopes {
        /// A source of the same pipeline with another configuration, opened where this one stands.
        private func reopen(
            _ source: SourceHarness, _ database: TestDatabase, _ collections: [String]?,
            isDeployment: Bool = false
        ) async throws -> SourceHarness {
            let other =
                isDeployment
                ? try SourceHarness(
                    url: database.set.url(), pipeline: database.pipeline, config: [:])
                : try SourceHarness(database, collections)
            await source.source.close()
            try await other.open(atStored: source.stored)
            return other
        }

        @Test("CORRECTNESS 62: collections are added and taken off, and the position stays good")
        func collections() async throws {
            let database = try await TestDatabase()
            var source = try await SourceHarness.open(database, ["t"])
            // The position is an event of the one collection.
            try await database.insert(#"{"_id": 1}"#)
            #expect(try await source.read(1).ids == ["1"])
            for (id, (collections, followed)) in [
                (["u"], ["u"]), (["t", "u"], ["t", "u"]), (nil, ["v", "t", "u"]), (["t"], ["t"]),
            ].enumerated() {
                for collection in ["v", "t", "u"] {
                    try await database.insert(#"{"_id": "\#(id)"}"#, into: collection)
                }
                source = try await reopen(source, database, collections)
                let names = try await source.read(followed.count).map(\.table.name)
                #expect(names == followed)
                #expect(source.start?.warnings.isEmpty == true)
            }
        }

        @Test("CORRECTNESS 62: also where the position is inside a transaction")
        func insideATransaction() async throws {
            let database = try await TestDatabase()
            for collection in ["t", "u"] {
                try await database.run(#"{"create": "\#(collection)"}"#)
            }
            var source = try await SourceHarness.open(database)
            try await database.shell.transaction {
                for id in 1...3 {
                    try await database.insert(#"{"_id": \#(id)}"#)
                    try await database.insert(#"{"_id": \#(id)}"#, into: "u")
                }
            }
            let change = try await source.read(3)[1]
            let identity = try #require(source.stored?.identity)
            source = try SourceHarness(database, ["u"])
            try await source.open(
                atStored: StoredPosition(
                    position: Position(token: change.position.token + "+"), identity: identity))
            #expect(try await source.drain().ids == ["2", "3"])
        }

        /// The token is of an event that the new stream does not show.
        @Test(
            "CORRECTNESS 62: a stream of less that breaks before its first event loses nothing",
            arguments: [true, false])
        func aBreakBeforeTheFirstEvent(fromDeployment: Bool) async throws {
            let database = try await TestDatabase()
            let other = try await TestDatabase()
            let wide =
                fromDeployment
                ? try SourceHarness(
                    url: database.set.url(), pipeline: database.pipeline, config: [:])
                : try SourceHarness(database, ["t", "u"])
            try await wide.open()
            try await database.insert(#"{"_id": 1}"#)
            if fromDeployment {
                try await other.insert(#"{"_id": 2}"#)
            } else {
                try await database.insert(#"{"_id": 2}"#, into: "u")
            }
            #expect(try await wide.read(2).ids == ["1", "2"])
            try await database.insert(#"{"_id": 3}"#)
            let narrow = try SourceHarness(database, ["t"])
            try await narrow.open(atStored: wide.stored)
            #expect(narrow.start?.warnings.isEmpty == !fromDeployment)
            for _ in 0..<2 { try await narrow.open() }
            #expect(try await narrow.drain().ids == ["3"])
            try await narrow.open()
            try await database.insert(#"{"_id": 4}"#)
            #expect(try await narrow.drain().ids == ["4"])
        }

        @Test(
            "CORRECTNESS 62: from a database to the deployment and back, nothing lost",
            arguments: [true, false])
        func deploymentAndBack(endsElsewhere: Bool) async throws {
            let database = try await TestDatabase()
            let other = try await TestDatabase()
            var source = try await SourceHarness.open(database, nil)
            try await database.insert(#"{"_id": 1}"#)
            #expect(try await source.read(1).ids == ["1"])
            source = try await reopen(source, database, nil, isDeployment: true)
            let warning = "the change stream covered \(database.name), it covers deployment now"
            #expect(source.start?.warnings == [warning])
            try await database.insert(#"{"_id": 2}"#)
            if endsElsewhere { try await other.insert(#"{"_id": 3}"#) }
            let changes = try await source.read(
                until: "all", events: 1
            ) { $1.count == (endsElsewhere ? 2 : 1) }
            #expect(changes.ids == (endsElsewhere ? ["2", "3"] : ["2"]))
            try await database.insert(#"{"_id": 4}"#)
            try await other.insert(#"{"_id": 5}"#)
            source = try await reopen(source, database, nil)
            #expect(source.start?.warnings.count == 1)
            #expect(try await source.drain().ids == ["4"])
        }
    }
}
