import Testing
import WeirCore
import WeirTesting

@testable import WeirMongoDBSource

extension MongoSourceTests {
    /// Positions that a server cannot go on at, and moving them.
    @Suite struct Losses {
        @Test("CORRECTNESS 55, 68: an oplog that no longer reaches back is a declared gap")
        func historyLost() async throws {
            let set = try await MongoReplicaSet.start(
                MongoServer.Options(oplogMegabytes: 1, syncDelaySeconds: 1))
            let database = try await TestDatabase(on: set)
            let source = try await SourceHarness.open(database)
            try await database.insert(#"{"_id": 1}"#)
            let change = try #require(try await source.drain().first)
            let old = try #require(source.stored)
            await source.source.close()
            let text = String(repeating: "x", count: 900_000)
            let time = ResumeToken.at(clusterTime: change.clusterTime).position
            for position in [old.position, time] {
                var lost: WeirError?
                // The server cuts its oplog when it has grown, up to the last checkpoint.
                try await eventually("the oplog is cut", poll: .milliseconds(100)) {
                    try await database.insert(#"{"v": "\#(text)"}"#, into: "other")
                    do { try await source.open(at: position) } catch let error as WeirError {
                        lost = error
                    }
                    return lost != nil
                }
                let error = try #require(lost)
                #expect(error.code.name == "mongodb.history_lost")
                #expect(error.disposition == .positionLost)
                #expect(
                    error.hint?.contains("weir position set \(database.pipeline) now --yes") == true
                )
                #expect(error.detail == "The server's code is 286.")
            }
            let kept = try await source.source.probe(held: old.position)
            #expect(kept.status == "lost")
            #expect(try #require(kept.headroomSeconds) <= 0)

            // An operator's word: from now on, and what lies between is said.
            let refused = try await source.source.planSeek(
                to: ClusterTime.text(change.clusterTime), from: old)
            let error = try await #require(throws: WeirError.self) {
                try await source.source.seek(refused)
            }
            #expect(error.code.name == "mongodb.history_lost")
            let plan = try await source.source.planSeek(to: "now", from: old)
            #expect(plan.effects.count == 1)
            let own = ClusterTime.text(old.position.high)
            #expect(plan.effects.first?.contains(own) == true)
            try await source.open(atStored: try await source.source.seek(plan))
            try await database.insert(#"{"_id": 2}"#)
            #expect(try await source.drain().ids == ["2"])
        }

        @Test(
            "CORRECTNESS 55: a damaged position is said to be one, never retried",
            arguments: ["82deadbeef", "82DEADBEEF+", "not hex", "", "0000000000000010:00000001"])
        func noPosition(text: String) async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database)
            let error = try await #require(throws: WeirError.self) {
                try await source.open(at: Position(token: text))
            }
            #expect(error.code.name == "mongodb.token_unfit")
            #expect(error.disposition == .positionLost)
            #expect(
                error.hint?.contains("weir position set \(database.pipeline) now --yes") == true)
        }

        /// The server is asked with each: it either takes the place, or says what we have a rule
        /// for.
        @Test("CORRECTNESS 55: whatever a token was damaged into, no server's answer is retried")
        func damagedTokens() async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database)
            try await database.insert(#"{"_id": {"a": 1, "b": "x"}}"#)
            let token = try #require(try await source.drain().first).position.token
            try await database.insert(#"{"_id": 2}"#)
            let stored = try #require(source.stored)
            var random = SeededGenerator(seed: 1)
            var damaged = stride(from: 18, to: token.utf8.count, by: 2)
                .map { String(token.prefix($0)) }
            for _ in 0..<150 {
                var digits = Array(token)
                // The time stays: another one is another test.
                let place = 18 + random.below(digits.count - 18)
                digits[place] = Array("0123456789ABCDEF")[random.below(16)]
                damaged.append(String(digits))
            }
            damaged += [token + "00", token + "FF", token + token]
            var refused = 0
            for text in damaged {
                do {
                    try await source.open(
                        atStored: StoredPosition(
                            position: Position(token: text + "+"), identity: stored.identity))
                    _ = try await source.readBatch(within: .milliseconds(1))
                } catch let error as WeirError {
                    #expect(error.disposition == .positionLost, "\(text): \(error)")
                    #expect(error.code.name == "mongodb.token_unfit", "\(text): \(error)")
                    refused += 1
                }
            }
            #expect(refused > damaged.count / 2)
        }

        @Test("CORRECTNESS 55: a position of a later time than the server's is not waited for")
        func positionAhead() async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database)
            try await database.insert(#"{"_id": 1}"#)
            let change = try #require(try await source.drain().first)
            let hour = UInt64(3600) << 32
            let later = ResumeToken.at(clusterTime: change.clusterTime + hour)
            let token = later.position.token + change.position.token.dropFirst(18) + "+"
            for position in [later.position, Position(token: token)] {
                let error = try await #require(throws: WeirError.self) {
                    try await source.open(at: position)
                }
                #expect(error.code.name == "mongodb.position_ahead")
                #expect(error.disposition == .positionLost)
            }
            // Clocks may differ by some seconds.
            let soon = ResumeToken.at(clusterTime: change.clusterTime + 20 << 32).position
            try await source.open(at: soon)
        }

        @Test("CORRECTNESS 55: another set's position is refused")
        func otherSet() async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database)
            let stored = try #require(source.stored)
            let error = try await #require(throws: WeirError.self) {
                try await source.open(
                    atStored: StoredPosition(
                        position: stored.position,
                        identity: SourceIdentity([("set", "rs9"), ("scope", database.name)])))
            }
            #expect(error.code.name == "mongodb.identity_changed")
            #expect(error.disposition == .positionLost)
            #expect(error.message.contains("\"weir\""))
            #expect(error.message.contains("\"rs9\""))
        }

        @Test func seeking() async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database)
            try await database.insert(#"{"_id": 1}"#, #"{"_id": 2}"#)
            let changes = try await source.read(2)
            let stored = try #require(source.stored)
            let own = ClusterTime.text(stored.position.high)

            func reads(_ target: String) async throws -> [String] {
                let plan = try await source.source.planSeek(to: target, from: stored)
                #expect(plan.effects.count == 1)
                #expect(plan.effects[0].contains(own))
                let sought = try await source.source.seek(plan)
                #expect(sought.identity == stored.identity)
                try await source.open(atStored: sought)
                return try await source.drain().ids
            }

            #expect(try await reads("now") == [])
            #expect(try await reads(ClusterTime.text(changes[0].clusterTime)) == ["1", "2"])
            #expect(try await reads(ClusterTime.text(changes[1].clusterTime)) == ["2"])
            #expect(try await reads(changes[0].position.token + "+") == ["2"])
            #expect(try await reads(stored.position.token) == [])
            #expect(try await reads("confirmed") == [])
            // What a first start does.
            let first = try await source.source.planSeek(to: "now", from: nil)
            #expect(first.effects.first?.contains("an unknown position") == true)
        }

        @Test(arguments: [
            "", "confirmed", "yesterday", "0/16B3748", "82", "2026-11-21", "2105-01-01T00:00:00Z",
        ])
        func targetsThatAreNone(target: String) async throws {
            let database = try await TestDatabase()
            let source = try SourceHarness(database)
            let error = try await #require(throws: WeirError.self) {
                try await source.source.planSeek(to: target, from: nil)
            }
            #expect(error.disposition == .blocked)
            #expect(error.hint != nil || error.message.contains("later than"))
        }

        @Test("CORRECTNESS 68: how far the oplog reaches back, and how much of it is left")
        func probe() async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database)
            try await database.insert(#"{"_id": 1}"#)
            _ = try await source.drain()
            let held = try #require(source.resume)
            for isOpen in [true, false] {
                if !isOpen { await source.source.close() }
                let kept = try await source.source.probe(held: held)
                #expect(kept.name == database.name)
                #expect(kept.active == isOpen)
                #expect(kept.status == "safe")
                #expect(kept.confirmed == ClusterTime.text(held.high))
                let head = try #require(ClusterTime.parse(kept.head ?? ""))
                #expect(head >= held.high - 1)
                let window = try #require(kept.windowSeconds)
                #expect(window >= 0)
                // Nothing was removed from this oplog yet.
                #expect(kept.headroomSeconds == nil)
            }
            let unknown = try await source.source.probe(held: nil)
            #expect(unknown.confirmed == nil)
            #expect(unknown.headroomSeconds == nil)
            #expect(unknown.windowSeconds != nil)
        }
    }
}
