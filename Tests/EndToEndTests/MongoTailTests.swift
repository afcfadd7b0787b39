import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// `weir tail`: a look without a configuration that leaves nothing behind.
    @Suite struct MongoTailTests {
        private let database: MongoDatabase
        /// Where temporary folders are made.
        private let scratch: TemporaryDirectory

        init() async throws {
            database = try await MongoDatabase.make()
            scratch = try TemporaryDirectory()
        }

        private var url: String { database.replicas.url(database: database.name) }

        private func tail(_ arguments: String...) throws -> ChildProcess {
            try ChildProcess(
                weirBinary, ["tail"] + arguments, environment: ["TMPDIR": scratch.path],
                directory: scratch.path)
        }

        private func refusal(_ arguments: String...) throws -> Answer {
            try Answer(
                runProcess(
                    weirBinary, ["tail"] + arguments, environment: ["TMPDIR": scratch.path],
                    directory: scratch.path, within: .seconds(20)))
        }

        private func shown(_ tail: ChildProcess) throws -> [String] {
            try tail.standardOutput().split(separator: "\n").map(String.init)
        }

        private func expectNothingLeft() throws {
            #expect(try FileManager.default.subpathsOfDirectory(atPath: scratch.path).isEmpty)
        }

        /// It follows from some moment on: inserts until that has come. Returns the next free id.
        private func untilFollowed(
            _ tail: ChildProcess, into collection: String = "items"
        ) async throws -> Int {
            var id = 0
            do {
                try await eventually("it prints something", poll: .milliseconds(50)) {
                    id += 1
                    try await database.insert(id...id, into: collection)
                    return try !tail.standardOutput().isEmpty
                }
                let last = "\"_id\":\(id)"
                try await eventually("it has caught up") {
                    try tail.standardOutput().contains(last)
                }
            } catch {
                throw TestingError("\(error): \(try tail.standardError())")
            }
            return id + 1
        }

        /// - Parameter finding: the one line it says on the standard error stream.
        private func expectEnd(
            _ tail: ChildProcess, _ signal: Int32? = SIGINT, after finding: String? = nil
        ) async throws {
            if let signal { tail.signal(signal) }
            let end = try await tail.wait()
            let said = try tail.standardError()
            #expect(end == .exited(0), "\(said)")
            #expect(said.split(separator: "\n").count == (finding == nil ? 0 : 1), "\(said)")
            if let finding { #expect(said.contains(finding)) }
            try expectNothingLeft()
        }

        @Test func changesArePrintedUntilInterrupted() async throws {
            for signal in [SIGINT, SIGTERM] {
                let tail = try tail(url)
                let id = try await untilFollowed(tail)
                let count = try shown(tail).count
                func untilShown(_ lines: String...) async throws {
                    try await eventually("\(lines) are shown") {
                        try shown(tail).count >= count + lines.count
                    }
                    let found = try shown(tail).dropFirst(count).map { line in
                        line.replacing(#/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\ /#, with: "")
                    }
                    #expect(found == lines)
                }
                let place = database.place("new")
                try await database.shell.insert(
                    #"{"_id": "မြန်မာ", "n": {"$numberLong": "5"}}"#, into: place)
                try await database.shell.update(
                    #"{"_id": "မြန်မာ"}"#, #"{"$set": {"n": 6}}"#, in: place)
                let key = #"{"_id":"မြန်မာ"}"#
                let changes = [
                    #"insert \#(place) \#(key) {"_id":"မြန်မာ","n":5}"#,
                    #"update \#(place) \#(key) {"_id":"မြန်မာ","n":6} late"#,
                ]
                try await untilShown(changes[0], changes[1])
                try await database.shell.delete("{}", from: place)
                try await database.insert(id...id)
                try await untilShown(
                    changes[0], changes[1], "delete \(place) \(key)",
                    #"insert \#(database.place("items")) {"_id":\#(id)} {"_id":\#(id),"v":"x"}"#)
                try await expectEnd(tail, signal)
                try await database.shell.delete("{}", from: database.place("items"), many: true)
            }
        }

        @Test func asJSONItPrintsWholeEventsAndEndsAfterSoMany() async throws {
            let tail = try tail(url, "--json", "-n", "3")
            var id = 0
            try await eventually("it ends by itself", poll: .milliseconds(20)) {
                id += 1
                try await database.insert(id...id)
                return !tail.isRunning
            }
            try await expectEnd(tail, nil)
            let events = try shown(tail).map { line in
                try #require(
                    try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
            }
            #expect(events.count == 3)
            for event in events {
                #expect(event["op"] as? String == "insert")
                #expect((event["after"] as? [String: Any])?["v"] as? String == "x")
                #expect((event["source"] as? [String: Any])?["collection"] as? String == "items")
            }
        }

        @Test func onlyTheNamedCollectionsAreShown() async throws {
            let tail = try tail(
                database.replicas.url(), "-t", database.place("items"), "--table",
                database.place("more"), "--json")
            let id = try await untilFollowed(tail)
            try await database.insert(id...id, into: "others")
            try await database.insert(id...id, into: "more")
            try await eventually("the second collection") {
                try tail.standardOutput().contains(#""collection":"more""#)
            }
            #expect(try !tail.standardOutput().contains(#""collection":"others""#))
            // It was not there when tail began.
            try await expectEnd(tail, after: "mongodb.collection_missing")
        }

        @Test func aReaderThatLeavesEndsIt() async throws {
            let pipe = try ChildProcess(
                "sh", ["-c", "\"$0\" tail \"$1\" | head -n 1", weirBinary, url],
                environment: ["TMPDIR": scratch.path])
            var id = 0
            try await eventually("both have ended", poll: .milliseconds(20)) {
                id += 1
                try await database.insert(id...id)
                return !pipe.isRunning
            }
            #expect(try pipe.standardOutput().split(separator: "\n").count == 1)
            let said = try pipe.standardError()
            #expect(said.isEmpty, "\(said)")
            try expectNothingLeft()
        }

        @Test func aPipelinesSourceIsFollowedBesideItsDaemon() async throws {
            let home = try WeirHome(database)
            let daemon = try home.run()
            try await home.untilStreaming()
            let position = try home.weir("position", "show", "shop").out
            #expect(position.contains("scope=\(database.name)"))
            let tail = try tail("shop", "-c", home.configuration)
            let id = try await untilFollowed(tail)
            try await eventually("the pipeline has them all") {
                lines(of: home.output).count == id - 1
            }
            try await expectEnd(tail)
            #expect(try home.status().pipeline("shop")?.state == "streaming")
            try await home.stop(daemon)
        }

        @Test func aPasswordIsWipedFromTheArguments() async throws {
            let locked = try await MongoDatabase.alone(MongoServer.Options(password: "WEIRCANARY"))
            let tail = try tail(locked.replicas.url(database: "shop"), "-n", "1")
            let path = "/proc/\(tail.pid)/cmdline"
            try await eventually("it is wiped") {
                let text = try String(contentsOfFile: path, encoding: .utf8)
                return text.contains("tail") && !text.contains("WEIRCANARY")
            }
            #expect(try String(contentsOfFile: path, encoding: .utf8).contains("****"))
            var id = 0
            try await eventually("it follows all the same", poll: .milliseconds(20)) {
                id += 1
                try await locked.insert(id...id)
                return !tail.isRunning
            }
            #expect(tail.exitStatus == .exited(0))
            #expect(try tail.standardOutput().hasSuffix(#""v":"x"}"# + "\n"))
            let said = try tail.standardError()
            #expect(said.contains("warning: the URL's password was visible"))
            #expect(!said.contains("WEIRCANARY"))
            try expectNothingLeft()
        }

        @Test func aServerThatIsNotThereIsWaitedFor() async throws {
            let url = "mongodb://127.0.0.1:\(try freePort())/d?serverSelectionTimeoutMS=100"
            let tail = try tail(url)
            try await eventually("it says so") {
                try tail.standardError().contains("mongodb.connection_failed")
            }
            #expect(tail.isRunning)
            tail.signal(SIGINT)
            #expect(try await tail.wait() == .exited(0))
            #expect(try tail.standardOutput().isEmpty)
            try expectNothingLeft()
        }

        @Test func whatItCannotFollowIsRefusedWithAReason() async throws {
            for (url, words) in [
                ("postgres://u:WEIRCANARY@h/d", "does not read postgres:// URLs"),
                ("http://h/d", "does not read http:// URLs"),
                ("mongodb://u:WEIRCANARY@h:x1/d", "not a MongoDB connection URL"),
                ("mongodb://127.0.0.1/admin", "admin"),
            ] {
                let answer = try refusal(url)
                #expect(answer.code == 64, "\(url): \(answer.err)")
                #expect(answer.err.contains(words), "\(answer.err)")
                #expect(!answer.err.contains("WEIRCANARY"))
                #expect(answer.out.isEmpty)
            }
            #expect(try refusal(url, "-n", "0").code == 64)
            #expect(try refusal(url, "-t", "nodot").err.contains("write database.collection"))
            let home = try WeirHome { _ in TestDatabaseless.configuration }
            let rows = try refusal("shop", "-c", home.configuration)
            #expect(rows.code == 64)
            #expect(rows.err.contains("a source of type postgres has one reader"))
            try expectNothingLeft()
        }
    }
}
