import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// What `status` tells of the oplog, where a pipeline stands, and how it is moved.
    @Suite struct MongoStatusTests {
        // MARK: Oplog

        @Test func statusShowsHowFarTheOplogReachesBack() async throws {
            let database = try await MongoDatabase.make()
            let home = try WeirHome(database)
            let before = try home.weir("status")
            #expect(before.code == 69 && before.out.contains("daemon not running"))
            let daemon = try home.run()
            try await home.untilStreaming()
            try await database.insert(1...3)
            try await eventually("delivered and looked at") {
                try lines(of: home.output).count == 3 && home.facts().source.retention != nil
            }
            func expectOplog(isActive: Bool) throws {
                let source = try home.facts().source
                let retention = try #require(source.retention)
                #expect(retention.name == database.name)
                #expect(retention.active == isActive)
                #expect(retention.status == "safe")
                let window = try #require(retention.windowSeconds)
                // Nothing was removed from this oplog yet, so that its age limits nothing.
                #expect(window >= 0 && retention.headroomSeconds == nil)
                let document = try home.weir("status", "--json").out
                #expect(document.contains("\"headroom_seconds\" : null"), "\(document)")
                #expect(retention.head?.contains(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/) == true)
                let confirmed = retention.confirmed
                #expect(confirmed?.contains(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/) == true)
                let shown = try home.weir("status", "shop").out
                #expect(
                    shown.contains(#/\n +oplog \d[0-9hms.]*, \? left \(safe\)/#),
                    "\(shown)"
                )
                let word = isActive ? "active" : "inactive"
                #expect(shown.contains("stream \(database.name)  \(word)  head"), "\(shown)")
                for line in shown.split(separator: "\n") {
                    #expect(line.count <= 100, "too wide: \(line)")
                }
            }
            try expectOplog(isActive: true)
            let server = try home.facts().source.server
            #expect(server.contains(/^MongoDB [0-9.]+, replica set weir$/), "\(server)")
            #expect(try home.weir("status", "shop").out.contains("mongodb cms (MongoDB "))
            try await home.stop(daemon)
            try expectOplog(isActive: false)
            #expect(try home.weir("status").code == 69)
        }

        @Test func withoutTheRightToReadTheOplogItIsUnknownAndTheRestGoesOn() async throws {
            let database = try await MongoDatabase.alone(MongoServer.Options(password: "root's"))
            try await database.shell.run(
                """
                {"createUser": "weir", "pwd": "WEIRCANARY", "roles": [
                    {"role": "read", "db": "shop"}]}
                """)
            let url = database.replicas.url(user: "weir", password: "WEIRCANARY")
            let home = try WeirHome { home in
                WeirHome.configuration(
                    ["cms": url],
                    ["shop": WeirHome.filed("cms", #""database": "shop""#, home.output)])
            }
            let daemon = try home.run()
            try await home.untilStreaming()
            try await database.insert(1...3)
            try await eventually("delivered and looked at") {
                try lines(of: home.output).count == 3 && home.facts().source.retention != nil
            }
            func expectUnknown() throws {
                let retention = try #require(try home.facts().source.retention)
                #expect(retention.status == "unknown")
                #expect(retention.windowSeconds == nil && retention.headroomSeconds == nil)
                let shown = try home.weir("status", "shop").out
                #expect(shown.contains("oplog unknown: the user may not read local.oplog.rs"))
            }
            try expectUnknown()
            #expect(try home.facts().problems.isEmpty)
            try await home.stop(daemon)
            try expectUnknown()
            try await database.insert(4...5)
            try home.once()
            #expect(try documentIDs(home.output) == Array(1...5))

            // Another password: it is tried again, and neither is shown anywhere.
            var seen = ""
            func ask(_ answer: Answer) { seen += answer.out + answer.err }
            try await database.shell.run(#"{"updateUser": "weir", "pwd": "another"}"#)
            let locked = try home.run()
            let problem = try await home.untilProblem("mongodb.authentication")
            #expect(problem.hint?.contains("Check them") == true, "\(problem)")
            ask(try home.weir("status"))
            ask(try home.weir("status", "shop"))
            ask(try home.weir("status", "--json"))
            try await database.shell.run(#"{"updateUser": "weir", "pwd": "WEIRCANARY"}"#)
            try await home.untilStreaming()
            try await home.stop(locked)
            try await database.shell.run(#"{"updateUser": "weir", "pwd": "another"}"#)
            let once = try home.weir("run", "--once")
            #expect(once.code == 75, "\(once.err)")
            #expect(once.err.contains("error mongodb.authentication: "))
            ask(once)
            ask(try home.weir("status", "shop"))
            ask(try home.weir("position", "show", "shop"))
            ask(try home.weir("position", "set", "shop", "now", "--yes"))
            ask(try home.weir("validate"))
            seen += try home.everythingWritten()
            #expect(seen.contains("mongodb.authentication"))
            #expect(!seen.contains("WEIRCANARY") && !seen.contains("another"))
        }

        // MARK: Position

        @Test func aPositionIsShownAndMovedToNowATimeOrAToken() async throws {
            let database = try await MongoDatabase.make()
            let home = try WeirHome(database)
            #expect(try home.weir("position", "show", "shop").out.contains("not been started"))
            try home.once()
            try await database.insert(1...5)
            try home.once()
            let delivered = try DocumentLine.all(of: home.output)
            #expect(try documentIDs(home.output) == Array(1...5))
            let shown = try home.weir("position", "show", "shop")
            #expect(shown.out.contains("set=weir") && shown.out.contains("scope=\(database.name)"))
            #expect(try home.moment() ?? delivered[0].moment >= delivered[4].moment)
            func epoch() throws -> Int {
                let text = try home.weir("position", "show", "shop").out
                return try #require(text.firstMatch(of: /epoch (\d+)/).flatMap { Int($0.1) })
            }
            func set(_ target: String) throws {
                let before = try epoch()
                let plan = try home.weir("position", "set", "shop", target)
                #expect(plan.code == 0, "\(plan.err)")
                #expect(plan.out.contains("Nothing was changed. Do it with: --yes"))
                #expect(try epoch() == before)
                let move = try home.weir("position", "set", "shop", target, "--yes")
                #expect(move.code == 0, "\(move.err)")
                #expect(move.out.contains("shop goes on at "))
                #expect(try epoch() > before)
            }
            var expected = Array(1...5)
            func expectNext(_ ids: [Int]) throws {
                try home.once()
                expected += ids
                #expect(try documentIDs(home.output) == expected)
            }
            // At a time, as it is shown; behind a change, by its token.
            try set("\(delivered[2].moment)")
            try expectNext([3, 4, 5])
            try set(delivered[2].pos.token + "+")
            try expectNext([4, 5])
            let date = Date(timeIntervalSince1970: Double(delivered[0].moment.seconds))
            try set(date.formatted(.iso8601))
            try expectNext([1, 2, 3, 4, 5])
            try await database.insert(6...7)
            try set("now")
            try await database.insert(8...9)
            try expectNext([8, 9])
            #expect(try home.gaps().last == "shop the position was set to now")

            let late = ClusterMoment(seconds: delivered[0].moment.seconds + 5000, increment: 1)
            for bad in ["\(late)", "0/16B3748", "82ZZ", "2026-02-30T00:00:00Z"] {
                let refused = try home.weir("position", "set", "shop", bad, "--yes")
                #expect(refused.code != 0 && refused.err.contains("error mongodb."), "\(bad)")
            }
            try expectNext([])
            // As the file's page says how to rotate it.
            try FileManager.default.moveItem(atPath: home.output, toPath: home.output + ".1")
            try await database.insert(10...11)
            try set("confirmed")
            expected = []
            try expectNext([10, 11])
            let daemon = try home.run()
            try await home.untilStreaming()
            #expect(try home.weir("position", "set", "shop", "now", "--yes").code == 69)
            try await home.stop(daemon)
        }

        // MARK: Lost

        /// The server drops the oldest megabyte of ten when it has written another.
        private func outrun(
            _ position: ClusterMoment, in database: MongoDatabase, from id: Int = 0
        ) async throws {
            struct Reply: Decodable {
                struct Cursor: Decodable { let firstBatch: [Entry] }
                struct Entry: Decodable { let ts: ClusterMoment }
                let cursor: Cursor
            }
            let text = String(repeating: "x", count: 1 << 20)
            var count = id
            try await eventually(within: .seconds(60), "the oplog begins behind \(position)") {
                for _ in 0..<4 {
                    count += 1
                    try await database.shell.insert(
                        #"{"_id": \#(count), "text": "\#(text)"}"#, into: database.place("bulk"))
                }
                let reply = try await database.shell.run(
                    #"{"find": "oplog.rs", "sort": {"$natural": 1}, "limit": 1}"#, database: "local"
                )
                let first = try JSONDecoder().decode(Reply.self, from: Data(reply.utf8))
                    .cursor.firstBatch.first
                return first.map { $0.ts > position } ?? false
            }
        }

        @Test func lostHistoryStopsThePipelineUntilTheGapIsDeclared() async throws {
            let database = try await MongoDatabase.alone(
                MongoServer.Options(oplogMegabytes: 10, syncDelaySeconds: 1))
            let home = try WeirHome(database)
            try home.once()
            try await database.insert(1...3)
            try home.once()
            let position = try #require(try home.moment())
            try await database.insert(4...5)
            try await outrun(position, in: database)
            let offline = try #require(try home.facts().source.retention)
            #expect(offline.status == "lost")
            // Whole seconds, and the oplog may have lost the position within one.
            #expect(try #require(offline.headroomSeconds) <= 0)
            #expect(try home.weir("status", "shop").out.contains("0s left (lost)"))

            // Beside it one that starts now.
            let other = home.folder.file("other.jsonl")
            try home.configure(
                WeirHome.configuration(
                    ["cms": database.url],
                    [
                        "shop": WeirHome.filed(
                            "cms", #""collections": \#(database.places("items"))"#, home.output),
                        "other": WeirHome.filed(
                            "cms", #""collections": \#(database.places("others"))"#, other),
                    ]))
            let daemon = try home.run()
            let problem = try await home.untilProblem("mongodb.history_lost")
            #expect(problem.hint?.contains("weir position set shop now --yes") == true)
            try await eventually("the other streams") {
                try home.facts("other").state == "streaming"
            }
            let begin = try await database.now()
            try await eventually("the other goes on for seconds") {
                let count = lines(of: other).count
                try await database.insert((count + 1)...(count + 1), into: "others")
                try await eventually("a line") { lines(of: other).count == count + 1 }
                return try await database.now().seconds > begin.seconds + 2
            }
            let facts = try home.facts()
            #expect(facts.state == "stopped")
            #expect(facts.problems.map(\.code) == ["mongodb.history_lost"])
            #expect(try home.figures().count(of: "mongodb.history_lost") == 1, "tried once")
            #expect(home.logText().ranges(of: "mongodb.history_lost").count == 1)
            let shown = try home.weir("status").out
            #expect(shown.contains("! shop/source  ") && shown.contains("(mongodb.history_lost)"))
            #expect(try home.moment() == position, "the dead token is kept until told otherwise")
            try await home.stop(daemon)

            let once = try home.weir("run", "--once")
            #expect(once.code == 69 && once.err.contains("error mongodb.history_lost: "))
            #expect(try home.gaps().isEmpty)
            let dead = try home.weir("position", "set", "shop", "\(position)", "--yes")
            #expect(dead.code != 0 && dead.err.contains("mongodb.history_lost"), "\(dead.err)")
            let move = try home.weir("position", "set", "shop", "now", "--yes")
            #expect(move.code == 0, "\(move.err)")
            #expect(move.out.contains("are not delivered: a gap."))
            #expect(try home.gaps() == ["shop the position was set to now"])
            try await database.insert(6...7)
            try home.once()
            #expect(try documentIDs(home.output) == [1, 2, 3, 6, 7])
            #expect(try home.facts().source.retention?.status == "safe")
            try await expectLostUnderAnOpenStream(database, home)
        }

        /// The oplog ends behind a daemon that is frozen, under its open cursor.
        private func expectLostUnderAnOpenStream(
            _ database: MongoDatabase, _ home: WeirHome
        ) async throws {
            let daemon = try home.run()
            try await eventually("it streams") { try home.facts().state == "streaming" }
            try await database.insert(8...9)
            try await eventually("two lines more") { lines(of: home.output).count == 7 }
            let position = try await database.now()
            daemon.signal(SIGSTOP)
            try await database.insert(10...12)
            try await outrun(position, in: database, from: 1_000_000)
            try await outrun(try await database.now(), in: database, from: 2_000_000)
            daemon.signal(SIGCONT)
            _ = try await home.untilProblem("mongodb.history_lost")
            try await eventually("it has stopped") { try home.facts().state == "stopped" }
            // The server may have answered once more before it saw nobody was there.
            let ids = try documentIDs(home.output)
            #expect(ids.count >= 7 && ids == [1, 2, 3] + (6..<(3 + ids.count)), "no gap: \(ids)")
            try await home.stop(daemon)
        }
    }
}
