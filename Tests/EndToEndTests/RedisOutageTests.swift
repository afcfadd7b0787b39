import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// Whatever Redis refuses or forgets, `status` says it in Redis's words, the changes wait, and
    /// the caches equal the tables once it is over.
    @Suite struct RedisOutageTests {
        private let database: TestDatabase
        private let redis: RedisServer

        init() async throws {
            database = try await TestDatabase.make()
            redis = try await RedisServer.start()
            try Catalogue.install(in: database)
        }

        private func untilSame(_ what: String = "the caches are equal") async throws {
            var last: String?
            do {
                try await eventually(within: .seconds(40), what, poll: .milliseconds(50)) {
                    last = try? Catalogue.difference(redis, database) ?? "same"
                    return last == "same"
                }
            } catch {
                throw TestingError("\(error): \(last ?? "Redis does not answer")")
            }
        }

        /// Writers go on through `body`; then nothing is under way, and the caches are equal.
        private func underLoad(
            _ home: WeirHome, _ daemon: ChildProcess, writers count: Int = 2,
            _ body: () async throws -> Void
        ) async throws {
            let writers = try (1...count).map {
                try Workload.writer($0, in: database, pause: 0.005)
            }
            try await flows()
            try await body()
            try await flows()
            try await Workload.stop(writers, in: database)
            try await untilSame()
            try await home.settle(daemon)
            try Catalogue.expectSame(redis, database)
        }

        /// Waits for so many transactions more.
        private func flows(_ count: Int = 30) async throws {
            let before = try Catalogue.transactions(in: database)
            try await eventually("the load goes on") {
                try Catalogue.transactions(in: database) > before + count
            }
        }

        /// From here on no change is missed, though Redis is not there.
        private func untilSlots(_ names: String...) async throws {
            try await eventually("slots are there") {
                try names.allSatisfy { try database.confirmed($0) != nil }
            }
        }

        // MARK: Away

        @Test func aRedisThatIsDownAtTheStartHoldsUpNobodyElse() async throws {
            let home = try Catalogue.home(database, redis, hasFile: true)
            redis.kill()
            let daemon = try home.run()
            let problem = try await home.untilProblem("redis.connection_failed")
            #expect(problem.message.contains("Connection refused"))
            #expect(problem.message.contains("127.0.0.1:\(redis.port)"))
            try await untilSlots("weir_shop", "weir_filed")
            try await Catalogue.change(database, times: 50)
            try await eventually("the file goes on") { lines(of: home.output).count > 20 }
            #expect(try home.status().pipeline("filed")?.state == "streaming")
            #expect(try home.status().pipeline("shop")?.state == "failing")
            try await eventually("changes wait") { try home.figures().queuedEvents ?? 0 > 60 }
            let shown = try home.weir("status").out
            #expect(shown.contains("(redis.connection_failed)"))
            #expect(shown.contains("2 pipelines: 1 ok, 1 not"))
            #expect(try home.queuedShown() != "0")
            try await redis.restart(keepingData: false)
            try await untilSame()
            try await home.settle(daemon)
            try Catalogue.expectSame(redis, database)
        }

        /// Beside a file that goes on, what waits for Redis goes to the disk and outlives a kill.
        @Test func whatWaitsOnDiskOutlivesAKill() async throws {
            let home = try WeirHome { home in
                let sinks = Catalogue.sinks.map { name, fields in
                    "\"\(name)\": { \"connection\": \"cache\", \"queue\": \"64KiB\", \(fields) }"
                }
                return """
                    {
                      "connections": {
                        "db": { "type": "postgres", "url": "\(database.url)" },
                        "cache": { "type": "redis", "url": "\(redis.url())" }
                      },
                      "pipelines": {
                        "shop": {
                          "source": { "connection": "db", "tables": \(json(Catalogue.tables)) },
                          "sinks": {
                            "file": { "type": "file", "path": "\(home.output)" },
                            \(sinks.joined(separator: ",\n"))
                          }
                        }
                      }
                    }
                    """
            }
            var daemon = try home.run()
            try await home.untilStreaming()
            let writers = try (1...2).map { try Workload.writer($0, in: database, pause: 0.002) }
            try await flows()
            redis.kill()
            func untilSpilled(_ bytes: Int) async throws {
                try await eventually(within: .seconds(30), "all three spill") {
                    let sinks = try? home.status().pipeline("shop")?.sinks
                    return sinks?.filter { $0.spilledBytes > bytes }.count == 3
                }
            }
            try await untilSpilled(200_000)
            daemon.signal(SIGKILL)
            try await daemon.wait()
            daemon = try home.run()
            try await untilSpilled(400_000)
            let size = fileSize(home.output)
            try await eventually("the file goes on") { fileSize(home.output) > size + 100_000 }
            try await redis.restart(keepingData: false)
            try await eventually(within: .seconds(90), "Redis takes them again") {
                try redis.contents().markers.count == 3
            }
            daemon.signal(SIGKILL)
            try await daemon.wait()
            daemon = try home.run()
            try await flows()
            try await Workload.stop(writers, in: database)
            try await home.settle(daemon)
            try Catalogue.expectSame(redis, database)
        }

        @Test func aRedisThatHangsForAWhileIsWaitedFor() async throws {
            let home = try Catalogue.home(database, redis)
            let daemon = try home.run()
            try await home.untilStreaming()
            try await underLoad(home, daemon) {
                for _ in 0..<3 {
                    redis.pause()
                    try await flows(60)
                    #expect(try home.status().isRunning, "status answers meanwhile")
                    redis.resume()
                    try await flows()
                }
            }
            // Within the patience of a connection: nothing failed.
            #expect(try home.figures().errors.isEmpty)
        }

        @Test func lostConnectionsAndForgottenScriptsLoseNothing() async throws {
            let home = try Catalogue.home(database, redis)
            let daemon = try home.run()
            try await home.untilStreaming()
            try await underLoad(home, daemon) {
                for _ in 0..<5 {
                    try redis.command("SCRIPT", "FLUSH")
                    try await flows(15)
                    try redis.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                    try await flows(15)
                }
            }
            #expect(try home.figures().count(of: "redis.data_lost") == 0)
            #expect(try home.figures().count(of: "redis.connection_failed") > 0)
        }

        // MARK: Refused

        /// `break` makes Redis refuse writes, `heal` ends that; meanwhile `words` of the server are
        /// shown, and how many changes wait.
        private func refuses(
            _ code: String, words: String, home: WeirHome? = nil,
            break: () throws -> Void, heal: () throws -> Void
        ) async throws {
            let home = try home ?? Catalogue.home(database, redis)
            let daemon = try home.run()
            try await home.untilStreaming()
            try await Catalogue.change(database, times: 20)
            try await untilSame("before")
            try `break`()
            try await Catalogue.change(database, times: 20)
            let problem = try await home.untilProblem(code)
            #expect(problem.message.contains(words), "\(problem)")
            #expect(problem.hint?.isEmpty == false)
            try await eventually("changes wait") { try home.figures().queuedEvents ?? 0 > 0 }
            let status = try home.weir("status").out
            #expect(status.contains("(\(code))") && status.contains(words), "\(status)")
            #expect(try Int(home.queuedShown()) ?? 0 > 0, "\(status)")
            #expect(home.logText().contains(code))
            #expect(try Catalogue.difference(redis, database) != nil, "it was refused")
            try heal()
            try await underLoad(home, daemon, writers: 1) {}
            #expect(try home.figures().count(of: "redis.data_lost") == 0)
        }

        @Test func aFullRedisIsNamedAndWaitedFor() async throws {
            try await refuses(
                "redis.out_of_memory",
                words: "OOM command not allowed when used memory > 'maxmemory'"
            ) {
                try redis.command("CONFIG", "SET", "maxmemory", "1")
            } heal: {
                try redis.command("CONFIG", "SET", "maxmemory", "0")
            }
        }

        @Test func aReplicaIsNamedAndWaitedFor() async throws {
            try await refuses(
                "redis.read_only", words: "READONLY You can't write against a read only replica"
            ) {
                try redis.command("REPLICAOF", "127.0.0.1", "1")
            } heal: {
                try redis.command("REPLICAOF", "NO", "ONE")
            }
        }

        @Test func missingRightsAreNamedAndWaitedFor() async throws {
            func rule(_ words: String...) throws {
                let reply = try redis.command(
                    (["ACL", "SETUSER", "weir"] + words).map { Bytes($0.utf8) })
                #expect(reply == .simple("OK"))
            }
            try rule(
                "on", ">pw", "~*", "&*", "+@read", "+@write", "+@scripting", "+@connection", "+info"
            )
            let home = try WeirHome(
                database, cache: redis.url(user: "weir", password: "pw"),
                tables: Catalogue.tables, sinks: Catalogue.sinks)
            // Servers say "can't run this command" or "no permissions to run the 'set' command".
            try await refuses("redis.permission", words: "run th", home: home) {
                try rule("-@write")
            } heal: {
                try rule("+@write")
            }
        }

        @Test func aWrongPasswordIsNamedAndShownNowhere() async throws {
            let (right, other) = ("WEIRCANARYA", "WEIRCANARYB")
            let redis = try await RedisServer.start(password: right)
            try redis.command("CONFIG", "SET", "requirepass", other)
            let home = try WeirHome(
                database, cache: redis.url(password: "WEIRCANARY%41"), tables: Catalogue.tables,
                sinks: Catalogue.sinks, hasFile: true)
            let daemon = try home.run()
            let problem = try await home.untilProblem("redis.authentication")
            #expect(problem.message.contains("WRONGPASS"), "\(problem)")
            try await untilSlots("weir_shop", "weir_filed")
            try await Catalogue.change(database, times: 50)
            try await eventually("the file goes on") { lines(of: home.output).count > 20 }
            try await eventually("changes wait") { try home.figures().queuedEvents ?? 0 > 60 }
            var seen = ""
            func ask(_ answer: Answer) { seen += answer.out + answer.err }
            ask(try home.weir("status"))
            ask(try home.weir("status", "shop"))
            ask(try home.weir("status", "--json"))
            ask(try home.weir("validate", home.configuration))
            ask(try home.weir("position", "show", "shop"))
            let healed = try runProcess(
                "redis-cli",
                [
                    "-s", redis.socketFile, "-a", other, "--no-auth-warning", "CONFIG", "SET",
                    "requirepass", right,
                ])
            #expect(healed.stdout == "OK\n")
            try await home.untilStreaming()
            try await home.settle(daemon)
            try Catalogue.expectSame(redis, database)
            ask(try home.weir("status"))
            seen += home.logText()
            for name in try FileManager.default.subpathsOfDirectory(atPath: home.stateDirectory) {
                let file = URL(fileURLWithPath: home.stateDirectory + "/" + name)
                let data = try? Data(contentsOf: file)
                seen += data.map { String(decoding: $0, as: UTF8.self) } ?? ""
            }
            #expect(seen.contains("redis.authentication"))
            #expect(seen.firstRange(of: "WEIRCANARY") == nil)
        }
    }
}
