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
                    url: database.set.url(), pipeline: database.pipeline, config: [:],
                    notes: source.notes)
                : try SourceHarness(database, collections, notes: source.notes)
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
                #expect(source.warnings.isEmpty)
            }
        }

        /// The stream stays the database's, and does not follow what the position is an event of.
        @Test("CORRECTNESS 62: a list that loses a collection and stays a list")
        func anotherList() async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database, ["t", "u"])
            try await database.insert(#"{"_id": 1}"#, into: "u")
            try await database.insert(#"{"_id": 2}"#)
            let last = try await source.read(2)[1]
            try await database.insert(#"{"_id": 3}"#)
            try await database.insert(#"{"_id": 4}"#, into: "u")
            let other = try SourceHarness(database, ["u", "v"], notes: source.notes)
            try await other.open(atStored: try behind(last, of: source))
            #expect(try await other.drain().ids == ["4"])
        }

        @Test(
            "CORRECTNESS 62: also where the position is inside a transaction",
            arguments: [["u"], ["u", "v"]])
        func insideATransaction(collections: [String]) async throws {
            let database = try await TestDatabase()
            for collection in ["t", "u"] {
                try await database.run(#"{"create": "\#(collection)"}"#)
            }
            var source = try await SourceHarness.open(database, ["t", "w"])
            try await database.shell.transaction {
                for id in 1...3 {
                    try await database.insert(#"{"_id": \#(id)}"#)
                    try await database.insert(#"{"_id": \#(id)}"#, into: "u")
                }
            }
            let change = try await source.read(3)[1]
            let identity = try #require(source.stored?.identity)
            source = try SourceHarness(database, collections, notes: source.notes)
            try await source.open(
                atStored: StoredPosition(
                    position: Position(token: change.position.token + "+"), identity: identity))
            #expect(try await source.drain().ids == ["2", "3"])
        }

        /// A source that has read a change of `t` and, last, one of `u`, which the next does not
        /// follow; and one of `t` that nobody has read.
        private func widely(
            _ database: TestDatabase, isDeployment: Bool = false
        ) async throws -> SourceHarness {
            let wide =
                isDeployment
                ? try SourceHarness(
                    url: database.set.url(), pipeline: database.pipeline, config: [:])
                : try SourceHarness(database, ["t", "u"])
            try await wide.open()
            try await database.insert(#"{"_id": 1}"#)
            try await database.insert(#"{"_id": 2}"#, into: "u")
            let changes = try await wide.read(2)
            #expect(changes.ids == ["1", "2"])
            try await database.insert(#"{"_id": 3}"#)
            return wide
        }

        /// Where a source stands that has read everything, and not the last word of its stream.
        private func behind(_ change: Change, of source: SourceHarness) throws -> StoredPosition {
            StoredPosition(
                position: Position(token: change.position.token + "+"),
                identity: try #require(source.stored).identity)
        }

        @Test(
            "CORRECTNESS 62: a stream of less that breaks before its first event loses nothing",
            arguments: [true, false])
        func aBreakBeforeTheFirstEvent(fromDeployment: Bool) async throws {
            let database = try await TestDatabase()
            let wide = try await widely(database, isDeployment: fromDeployment)
            let narrow = try SourceHarness(database, ["t"], notes: wide.notes)
            try await narrow.open(atStored: wide.stored)
            #expect(narrow.warnings.isEmpty == !fromDeployment)
            for _ in 0..<2 { try await narrow.open() }
            #expect(try await narrow.drain().ids == ["3"])
            try await narrow.open()
            try await database.insert(#"{"_id": 4}"#)
            #expect(try await narrow.drain().ids == ["4"])
        }

        /// Each sink has a place of its own, and the pipeline stands where the last of them does:
        /// without it, at another place of the stream before.
        @Test("CORRECTNESS 62: every place of the stream before is good for the one after it")
        func aLaterPlaceOfTheStreamBefore() async throws {
            let database = try await TestDatabase()
            let wide = try await SourceHarness.open(database, ["t", "u"])
            for id in 1...3 {
                try await database.insert(#"{"_id": \#(id)}"#, into: id == 3 ? "t" : "u")
            }
            let changes = try await wide.read(3)
            let places = try changes.map { try behind($0, of: wide) }
            let narrow = try SourceHarness(database, ["t"], notes: wide.notes)
            for place in places {
                try await narrow.open(atStored: place)
                try await narrow.open(atStored: place)
            }
            try await narrow.open(atStored: places[1])
            #expect(try await narrow.drain().ids == ["3"])
            // And back, with what was noted for the one in between.
            let again = try SourceHarness(database, ["t", "u"], notes: wide.notes)
            try await again.open(atStored: places[0])
            #expect(try await again.drain().ids == ["2", "3"])
        }

        @Test("CORRECTNESS 62: a place of the stream before may be set, and is the same place")
        func aPlaceIsSet() async throws {
            let database = try await TestDatabase()
            let wide = try await widely(database)
            let stored = try #require(wide.stored)
            let narrow = try SourceHarness(database, ["t"], notes: wide.notes)
            for _ in 0..<2 {
                let plan = try await narrow.source.planSeek(
                    to: stored.position.token, from: stored)
                let moved = try await narrow.source.seek(plan)
                #expect(moved == stored)
                try await narrow.open(atStored: moved)
                #expect(try await narrow.drain().ids == ["3"])
            }
        }

        /// The rename is read again, and was gone beyond.
        @Test("CORRECTNESS 56, 62: behind a rename onto a collection, another one may be added")
        func behindARename() async throws {
            let database = try await TestDatabase()
            try await database.insert(#"{"_id": 1}"#, into: "fresh")
            let source = try await SourceHarness.open(database, ["t"])
            try await database.rename("fresh", to: "t")
            try await database.insert(#"{"_id": 2}"#)
            let before = try #require(source.stored)
            let error = try await #require(throws: WeirError.self) { try await source.read(1) }
            let place = try #require(error.hint?.firstMatch(of: /set \w+ ([0-9A-F+]+) --yes/)).1
            let plan = try await source.source.planSeek(to: String(place), from: before)
            let moved = try await source.source.seek(plan)
            let wide = try SourceHarness(database, ["t", "u"], notes: source.notes)
            for _ in 0..<2 { try await wide.open(atStored: moved) }
            #expect(try await wide.drain().ids == ["2"])
            #expect(wide.log.all.isEmpty)
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
            #expect(source.warnings == [warning])
            try await database.insert(#"{"_id": 2}"#)
            if endsElsewhere { try await other.insert(#"{"_id": 3}"#) }
            let changes = try await source.read(
                until: "all", events: 1
            ) { $1.count == (endsElsewhere ? 2 : 1) }
            #expect(changes.ids == (endsElsewhere ? ["2", "3"] : ["2"]))
            try await database.insert(#"{"_id": 4}"#)
            try await other.insert(#"{"_id": 5}"#)
            source = try await reopen(source, database, nil)
            #expect(source.warnings.count == 1)
            #expect(try await source.drain().ids == ["4"])
        }
    }
}
