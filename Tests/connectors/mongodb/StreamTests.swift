import Foundation
import Testing
import WeirCore
import WeirTesting

@testable import WeirMongoDBSource

extension MongoSourceTests {
    /// Where a stream begins, what its positions are, and how they move.
    @Suite struct Streams {
        @Test("CORRECTNESS 53: nothing is lost between opening and the first read")
        func firstStart() async throws {
            let database = try await TestDatabase()
            try await database.insert(#"{"_id": 0}"#)
            let source = try await SourceHarness.open(database)
            let start = try #require(source.start)
            try await database.insert(#"{"_id": 1}"#, #"{"_id": 2}"#)
            #expect(
                try await source.drain().texts == [
                    #"insert t {"_id":1} + {"_id":1}"#, #"insert t {"_id":2} + {"_id":2}"#,
                ])
            // The place a first start reports is as good as any.
            try await source.open(at: start.position)
            #expect(try await source.drain().ids == ["1", "2"])
            #expect(start.server.hasPrefix("MongoDB "))
            #expect(start.server.hasSuffix(", replica set weir"))
            #expect(source.warnings.isEmpty)
            #expect(start.identity.description == "set=weir scope=\(database.name)")
        }

        @Test("CORRECTNESS 51: a stream begins at a token, at an idle stream's token, at a time")
        func starts() async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database)
            try await database.insert(#"{"_id": 1}"#, #"{"_id": 2}"#, #"{"_id": 3}"#)
            let changes = try await source.read(3)
            // Behind each event.
            for index in changes.indices {
                let behind = Position(token: changes[index].position.token + "+")
                try await source.open(at: behind)
                #expect(try await source.drain().ids == ["1", "2", "3"].suffix(2 - index))
            }
            // A time has everything that happened then.
            let time = ResumeToken.at(clusterTime: changes[1].clusterTime).position
            #expect(time < changes[1].position)
            #expect(changes[0].position < time)
            try await source.open(at: time)
            #expect(try await source.drain().ids == ["2", "3"])
            // Where nothing has happened since.
            let idle = try #require(source.resume)
            try await source.open(at: idle)
            #expect(try await source.drain().isEmpty)
            try await database.insert(#"{"_id": 4}"#)
            try await source.open(at: idle)
            #expect(try await source.drain().ids == ["4"])
        }

        @Test("CORRECTNESS 52: the place to resume is behind the event that was handed on last")
        func resumeBehindEachEvent() async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database)
            try await database.insert(#"{"_id": 1}"#, #"{"_id": 2}"#, #"{"_id": 3}"#)
            for id in ["1", "2", "3"] {
                // One is asked for, and the server has sent them all.
                let changes = try await source.read(
                    until: "one", events: 1
                ) { !$1.isEmpty }
                #expect(changes.ids == [id])
                let resume = try #require(source.batch.resume)
                #expect(resume == source.batch.end)
                #expect(resume > changes[0].position)
                if id == "1" { #expect(resume.token == changes[0].position.token + "+") }
                try await source.open()
            }
            #expect(try await source.drain().isEmpty)
        }

        @Test("CORRECTNESS 52: an idle database's position moves with the rest of the oplog")
        func idleAdvance() async throws {
            let database = try await TestDatabase()
            let busy = try await TestDatabase()
            let source = try await SourceHarness.open(database)
            try await database.insert(#"{"_id": 1}"#)
            #expect(try await source.drain().ids == ["1"])
            var last = try #require(source.resume)
            for id in 1...3 {
                try await busy.insert(#"{"_id": \#(id)}"#)
                let marker = try #require(try await source.source.mark())
                try await eventually("the position passes the write", poll: .zero) {
                    let changes = try await source.read()
                    #expect(changes.isEmpty)
                    return try #require(source.batch.resume) > marker
                }
                let resume = try #require(source.resume)
                #expect(resume > last)
                last = resume
            }
            try await database.insert(#"{"_id": 2}"#)
            try await source.open(at: last)
            #expect(try await source.drain().ids == ["2"])
        }

        @Test("CORRECTNESS 67: an event's time is the server's clock when it was written")
        func commitTime() async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database)
            let before = Int64(Date.now.timeIntervalSince1970 * 1000)
            try await database.insert(#"{"_id": 1}"#)
            let after = Int64(Date.now.timeIntervalSince1970 * 1000)
            let change = try #require(try await source.drain().first)
            #expect(change.commitMicros % 1000 == 0)
            #expect((before...after).contains(change.commitMicros / 1000))
        }

        @Test("CORRECTNESS 70: redelivered, an event has the same position and the same bytes")
        func redelivery() async throws {
            let database = try await TestDatabase()
            try await database.createWithImages()
            let source = try await SourceHarness.open(database)
            let start = try #require(source.start?.position)
            try await database.shell.insert(count: 50, into: database.path("t")) {
                #"{"_id": \#($0), "a": [1, {"b": "x"}]}"#
            }
            for id in 0..<50 {
                try await database.update(#"{"_id": \#(id)}"#, #"{"$set": {"a.1.b": "\#(id)"}}"#)
            }
            try await database.delete(#"{"_id": 7}"#)
            let first = try await source.drain()
            #expect(first.count == 101)
            try await source.open(at: start)
            let second = try await source.drain(events: 7)
            #expect(second.texts == first.texts)
            #expect(second.map(\.position) == first.map(\.position))
            #expect(second.map(\.document) == first.map(\.document))
            #expect(Set(first.map(\.position)).count == 101)
        }

        @Test func aClosedSourceLeavesNoCursorAndNoConnection() async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database)
            #expect(try await database.cursors().count == 1)
            await source.source.close()
            await source.source.close()
            #expect(try await database.cursors().isEmpty)
            let error = try await #require(throws: WeirError.self) { try await source.readBatch() }
            #expect(error.disposition == .transient)
            let mark = try await #require(throws: WeirError.self) {
                try await source.source.mark()
            }
            #expect(mark.disposition == .transient)
        }
    }
}
