import Testing
import WeirCore
import WeirTesting

@testable import WeirMongoDBSource

extension MongoSourceTests {
    /// What happens to whole collections and databases.
    @Suite struct Collections {
        /// A stream of one collection ends with it, a stream of its database does not.
        static let scopes: [[String]] = [["t"], ["t", "u"]]

        @Test(
            "CORRECTNESS 56: a drop ends a collection, and a new one of its name is followed",
            arguments: scopes)
        func drop(collections: [String]) async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database, collections)
            try await database.insert(#"{"_id": 1}"#)
            try await database.insert(#"{"_id": 1}"#, into: "other")
            try await database.run(#"{"drop": "other"}"#)
            try await database.run(#"{"drop": "t"}"#)
            try await database.insert(#"{"_id": 1, "a": 2}"#)
            let changes = try await source.drain()
            #expect(
                changes.texts == [
                    #"insert t {"_id":1} + {"_id":1}"#, "truncate t, dropped",
                    #"insert t {"_id":1} + {"_id":1,"a":2}"#,
                ])
            // One may resume in between.
            try await source.open(at: Position(token: changes[1].position.token + "+"))
            #expect(try await source.drain().texts == changes.suffix(1).texts)
        }

        @Test("CORRECTNESS 56: a collection that is renamed away is gone", arguments: scopes)
        func renameAway(collections: [String]) async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database, collections)
            try await database.insert(#"{"_id": 1}"#)
            try await database.rename("t", to: "old")
            try await database.insert(#"{"_id": 2}"#, into: "old")
            try await database.insert(#"{"_id": 3}"#)
            #expect(
                try await source.drain().texts == [
                    #"insert t {"_id":1} + {"_id":1}"#, "truncate t, dropped",
                    #"insert t {"_id":3} + {"_id":3}"#,
                ])
        }

        @Test(
            "CORRECTNESS 56: a rename onto a followed collection stops, with the place behind it",
            arguments: ["rename", "dropTarget", "out"])
        func renameOnto(way: String) async throws {
            let database = try await TestDatabase()
            if way != "rename" { try await database.insert(#"{"_id": 0}"#) }
            try await database.insert(#"{"_id": 1}"#, into: "fresh")
            let source = try await SourceHarness.open(database, ["t", "u"])
            try await database.insert(#"{"_id": 1}"#, into: "u")
            switch way {
            case "rename": try await database.rename("fresh", to: "t")
            case "dropTarget": try await database.rename("fresh", to: "t", dropTarget: true)
            default:
                try await database.run(
                    #"{"aggregate": "fresh", "pipeline": [{"$out": "t"}], "cursor": {}}"#)
            }
            try await database.insert(#"{"_id": 2}"#, into: "u")
            // What came before is handed on first.
            #expect(try await source.read(1).ids == ["1"])
            let before = try #require(source.stored)
            var hint: String?
            for _ in 0..<2 {
                let error = try await #require(throws: WeirError.self) {
                    try await source.read(1)
                }
                #expect(error.code.name == "mongodb.collection_replaced")
                #expect(error.disposition == .blocked)
                #expect(error.message.contains("\"\(database.path("t"))\""))
                hint = error.hint
                #expect(error.hint?.contains("empty there") == false)
                // Nothing is skipped by starting again.
                try await source.open()
            }
            let command = try #require(
                hint?.firstMatch(of: /weir position set (\w+) ([0-9A-F+]+) --yes/))
            #expect(command.1 == database.pipeline)
            let plan = try await source.source.planSeek(to: String(command.2), from: before)
            try await source.open(atStored: try await source.source.seek(plan))
            #expect(try await source.drain().texts == [#"insert u {"_id":2} + {"_id":2}"#])
        }

        @Test("CORRECTNESS 56: a rename from one followed collection to another names both")
        func renameBetweenFollowed() async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database, ["t", "u"])
            try await database.insert(#"{"_id": 1}"#, into: "u")
            #expect(try await source.read(1).ids == ["1"])
            try await database.rename("u", to: "t")
            let error = try await #require(throws: WeirError.self) { try await source.read(1) }
            #expect(error.code.name == "mongodb.collection_replaced")
            #expect(error.message.contains("\"\(database.path("t"))\""))
            #expect(
                error.hint?.contains("empty there what is \"\(database.path("u"))\", then") == true)
        }

        @Test(
            "CORRECTNESS 56: a rename onto the only collection stops, with the place behind it",
            arguments: [true, false])
        func renameOntoTheOnly(dropTarget: Bool) async throws {
            let database = try await TestDatabase()
            if dropTarget { try await database.insert(#"{"_id": 0}"#) }
            try await database.insert(#"{"_id": 1}"#, into: "fresh")
            let source = try await SourceHarness.open(database, ["t"])
            try await database.rename("fresh", to: "t", dropTarget: dropTarget)
            try await database.insert(#"{"_id": 2}"#)
            let before = try #require(source.stored)
            let error = try await #require(throws: WeirError.self) { try await source.read(1) }
            #expect(error.code.name == "mongodb.collection_replaced")
            let place = try #require(error.hint?.firstMatch(of: /set \w+ ([0-9A-F+]+) --yes/)).1
            let plan = try await source.source.planSeek(to: String(place), from: before)
            try await source.open(atStored: try await source.source.seek(plan))
            #expect(try await source.drain().texts == [#"insert t {"_id":2} + {"_id":2}"#])
        }

        @Test(
            "CORRECTNESS 56: a rename onto a followed collection may be gone beyond, and is said",
            arguments: scopes)
        func renameOntoGoingOn(collections: [String]) async throws {
            let database = try await TestDatabase()
            try await database.insert(#"{"_id": 1}"#, into: "fresh")
            let source = try await SourceHarness.open(
                database, collections, config: ["on_rename": .string("continue")])
            try await database.insert(#"{"_id": 0}"#)
            try await database.rename("fresh", to: "t", dropTarget: true)
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": 1}}"#)
            #expect(
                try await source.drain().texts == [
                    #"insert t {"_id":0} + {"_id":0}"#,
                    #"update t {"_id":1} + {"_id":1,"a":1}, late"#,
                ])
            #expect(source.log.all[0].hasPrefix("warning: another collection was renamed to"))
            #expect(source.log.all.count == (collections.count == 1 ? 2 : 1))
        }

        @Test("CORRECTNESS 56: of a whole database every rename is one onto a followed collection")
        func renameInADatabase() async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(
                database, nil, config: ["on_rename": .string("continue")])
            try await database.insert(#"{"_id": 1}"#)
            try await database.rename("t", to: "u")
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": 1}}"#, in: "u")
            #expect(
                try await source.drain().texts == [
                    #"insert t {"_id":1} + {"_id":1}"#, "truncate t, dropped",
                    #"update u {"_id":1} + {"_id":1,"a":1}, late"#,
                ])
            #expect(source.log.all.count == 1)
            let careful = try SourceHarness(database, nil)
            try await careful.open(
                atStored: StoredPosition(
                    position: try #require(source.start).position,
                    identity: try #require(source.start).identity))
            #expect(try await careful.read(1).count == 1)
            let error = try await #require(throws: WeirError.self) { try await careful.read(1) }
            #expect(error.code.name == "mongodb.collection_replaced")
        }

        @Test(
            "CORRECTNESS 51, 56: behind a database's end the stream goes on, and a new one is followed",
            arguments: [["t", "u"], nil])
        func dropDatabase(collections: [String]?) async throws {
            let database = try await TestDatabase()
            try await database.insert(#"{"_id": 1}"#)
            try await database.insert(#"{"_id": 1}"#, into: "u")
            let source = try await SourceHarness.open(database, collections)
            for round in 1...2 {
                try await database.run(#"{"dropDatabase": 1}"#)
                try await database.insert(#"{"_id": \#(round)}"#)
                // Collections are dropped in no particular order.
                let changes = try await source.read(3 - (round - 1))
                #expect(
                    changes.texts.sorted() == [
                        #"insert t {"_id":\#(round)} + {"_id":\#(round)}"#, "truncate t, dropped",
                    ] + (round == 1 ? ["truncate u, dropped"] : []))
                #expect(changes.last?.operation == .insert)
                #expect(source.log.all.count == round)
                #expect(source.log.all.last?.contains("stream ended") == true)
            }
            // Before, at and behind the end, one may begin again.
            try await database.run(#"{"dropDatabase": 1}"#)
            try await database.insert(#"{"_id": 3}"#)
            let all = try await source.read(until: "the insert", events: 1) {
                $1.last?.operation == .insert
            }
            #expect(all.count == 2)
            try await source.open(at: Position(token: all[0].position.token + "+"))
            #expect(try await source.read(1).texts == all.suffix(1).texts)
        }

        @Test("CORRECTNESS 51, 56: the place behind an invalidate event is one to begin at")
        func behindAnInvalidate() async throws {
            let database = try await TestDatabase()
            try await database.insert(#"{"_id": 1}"#)
            let source = try await SourceHarness.open(database)
            try await database.run(#"{"dropDatabase": 1}"#)
            #expect(try await source.read(1).texts == ["truncate t, dropped"])
            // Until the stream has ended and another one begun.
            try await eventually("the stream ends", poll: .zero) {
                let changes = try await source.read()
                #expect(changes.isEmpty)
                return !source.log.all.isEmpty
            }
            for _ in 0..<2 { try await source.open() }
            try await database.insert(#"{"_id": 2}"#)
            #expect(try await source.read(1).ids == ["2"])
        }

        @Test("CORRECTNESS 56: a deployment's stream does not end with a database")
        func deployment() async throws {
            let first = try await TestDatabase()
            let second = try await TestDatabase()
            let source = try SourceHarness(
                url: first.set.url(), pipeline: first.pipeline, config: [:])
            try await source.open()
            #expect(source.start?.identity["scope"] == "deployment")
            try await first.insert(#"{"_id": 1}"#)
            try await second.insert(#"{"_id": 2}"#)
            try await first.run(#"{"dropDatabase": 1}"#)
            try await second.insert(#"{"_id": 3}"#)
            let changes = try await source.drain()
            #expect(
                changes.map(\.table.schema) == [first.name, second.name, first.name, second.name])
            #expect(
                changes.texts == [
                    #"insert t {"_id":1} + {"_id":1}"#, #"insert t {"_id":2} + {"_id":2}"#,
                    "truncate t, dropped", #"insert t {"_id":3} + {"_id":3}"#,
                ])
            #expect(source.log.all.isEmpty)
        }

        @Test("CORRECTNESS 56: collections of several databases are followed by one stream")
        func severalDatabases() async throws {
            let first = try await TestDatabase()
            let second = try await TestDatabase()
            let source = try SourceHarness(
                url: first.set.url(), pipeline: first.pipeline,
                config: [
                    "collections": .list([first.path("t"), second.path("u")].map { .string($0) })
                ])
            try await source.open()
            for database in [first, second] {
                for collection in ["t", "u"] {
                    try await database.insert(#"{"_id": 1}"#, into: collection)
                }
            }
            let tables = try await source.drain().map(\.table.description)
            #expect(tables == [first.path("t"), second.path("u")])
        }

        @Test(
            "CORRECTNESS 56: what has no change stream is refused instead of never heard of",
            arguments: [["v"], ["t", "v"], ["t", "s"]])
        func otherThanCollections(collections: [String]) async throws {
            let database = try await TestDatabase()
            try await database.run(#"{"create": "t"}"#)
            try await database.run(#"{"create": "v", "viewOn": "t", "pipeline": []}"#)
            try await database.run(#"{"create": "s", "timeseries": {"timeField": "at"}}"#)
            let source = try SourceHarness(database, collections)
            let error = try await #require(throws: WeirError.self) { try await source.open() }
            #expect(error.code.name == "mongodb.not_a_collection")
            #expect(error.disposition == .blocked)
            let kind = collections.last == "v" ? "view" : "timeseries"
            let name = database.path(collections.last ?? "")
            #expect(error.message == "\"\(name)\" is no collection but a \(kind)")
            // Made anew as one, it is followed.
            try await database.run(#"{"drop": "\#(collections.last ?? "")"}"#)
            try await source.open()
        }

        @Test(
            "CORRECTNESS 56: a collection of the server's own is refused",
            arguments: [["system.js"], ["t", "system.buckets.s"]])
        func systemCollections(collections: [String]) async throws {
            let source = try SourceHarness(try await TestDatabase(), collections)
            let error = try await #require(throws: WeirError.self) { try await source.open() }
            #expect(error.code.name == "mongodb.not_a_collection")
            #expect(error.disposition == .blocked)
            #expect(error.message.hasSuffix("\" is no collection but a system collection"))
        }

        @Test("CORRECTNESS 56: a collection that does not exist is said, until its first change")
        func missing() async throws {
            let database = try await TestDatabase()
            try await database.insert(#"{"_id": 1}"#)
            let source = try await SourceHarness.open(database, ["t", "later"])
            let missing = source.reports.findings
            #expect(missing.map(\.code.name) == ["mongodb.collection_missing"])
            #expect(missing.first?.severity == .warning)
            #expect(missing.first?.subject == "\(database.name).later")
            let tables = try await source.source.tables()
            #expect(tables.map(\.name) == ["t", "later"] && tables.allSatisfy(\.isCollection))
            try await database.insert(#"{"_id": 2}"#, into: "later")
            #expect(try await source.drain().ids == ["2"])
            #expect(source.reports.findings.isEmpty)
            let whole = try await SourceHarness.open(database, nil)
            #expect(Set(try await whole.source.tables().map(\.name)) == ["t", "later"])
        }

        @Test("CORRECTNESS 56: what changes no document is left out")
        func otherKinds() async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database, nil)
            try await database.run(#"{"create": "t"}"#)
            try await database.run(
                #"{"createIndexes": "t", "indexes": [{"key": {"a": 1}, "name": "a"}]}"#)
            try await database.run(#"{"dropIndexes": "t", "index": "a"}"#)
            try await database.run(#"{"create": "v", "viewOn": "t", "pipeline": []}"#)
            try await database.run(#"{"collMod": "t", "validator": {"a": {"$ne": 7}}}"#)
            try await database.run(#"{"create": "c", "capped": true, "size": 4096}"#)
            try await database.insert(#"{"_id": 1}"#, into: "c")
            try await database.insert(#"{"_id": 1}"#)
            let texts = try await source.drain().texts
            #expect(
                texts == [#"insert c {"_id":1} + {"_id":1}"#, #"insert t {"_id":1} + {"_id":1}"#])
        }
    }
}
