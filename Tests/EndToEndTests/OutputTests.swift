import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// What leaves the daemon beside events, and where events go that nobody takes.
    @Suite struct OutputTests {
        @Test func aReaderOfStdoutThatLeavesStopsOnlyThatPipeline() async throws {
            let database = try await TestDatabase.make()
            try database.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
            let home = try WeirHome { home in
                """
                {
                  "connections": { "db": { "type": "postgres", "url": "\(database.url)" } },
                  "pipelines": {
                    "piped": {
                      "source": { "connection": "db", "tables": ["public.t"] },
                      "sinks": { "out": { "type": "stdout" } }
                    },
                    "filed": {
                      "source": { "connection": "db", "tables": ["public.t"] },
                      "sinks": { "file": { "type": "file", "path": "\(home.output)" } }
                    }
                  }
                }
                """
            }
            let shell = try home.run(through: ["sh", "-c", "\"$0\" \"$@\" | head -n 1"])
            try await home.untilStreaming()
            let pid = pid_t(try #require(try home.status().pid))
            // One line, then head is gone; the next write finds that out.
            for id in 1...20 {
                try database.sql("INSERT INTO t VALUES (\(id), 'x')")
                try await eventually("the file goes on") { lines(of: home.output).count == id }
                if try home.status().pipeline("piped")?.state == "stopped" { break }
            }
            let status = try home.status()
            let piped = try #require(status.pipeline("piped"))
            #expect(piped.state == "stopped")
            #expect(piped.problems.first?.code == "file.write_failed")
            #expect(piped.problems.first?.message.contains("standard output: Broken pipe") == true)
            #expect(piped.problems.first?.hint == "The program that read it has ended.")
            #expect(status.pipeline("filed")?.state == "streaming")
            #expect(try home.weir("status").code == 69, "one is stopped")
            #expect(try home.weir("status", "filed").code == 0)
            try database.sql("INSERT INTO t VALUES (100, 'x')")
            try await eventually("the other goes on") {
                lines(of: home.output).last?.contains("\"id\":100") == true
            }
            #expect(lines(of: home.folder.file("stdout")).count == 1)
            kill(pid, SIGTERM)
            try await shell.wait()
        }

        @Test func startSaysFewLines() async throws {
            let database = try await TestDatabase.make()
            try database.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
            let home = try WeirHome(database, tables: ["public.t"])
            let daemon = try home.run()
            try await home.untilStreaming()
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
            #expect(home.logText().split(separator: "\n").count <= 12, "\(home.logText())")
            for line in home.logText().split(separator: "\n") {
                let object = try JSONSerialization.jsonObject(with: Data(line.utf8))
                #expect(object is [String: Any], "one JSON object per line")
            }
        }

        /// The password of a URL, literal and decoded, is nowhere but in the configuration.
        @Test func aPasswordNeverLeavesTheConfiguration() async throws {
            let database = try await TestDatabase.make()
            try database.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
            try database.sql("CREATE ROLE canary SUPERUSER LOGIN PASSWORD 'WEIRCANARYA'")
            let port = database.server.port
            func url(_ place: String) -> String { "postgres://canary:WEIRCANARY%41@\(place)" }
            let urls = [
                "ok": url("127.0.0.1:\(port)/\(database.name)"),
                "nodb": url("127.0.0.1:\(port)/missing"),
                "noport": url("127.0.0.1:1/d?sslmode=prefer"),
                "nohost": url("host.invalid/d"),
            ]
            let connections = urls.map { name, url in
                "\"\(name)\": { \"type\": \"postgres\", \"url\": \"\(url)\" }"
            }
            let pipelines = urls.keys.map { name in
                """
                "\(name)": {
                  "source": { "connection": "\(name)", "tables": ["public.t"] },
                  "sinks": { "void": { "type": "blackhole" } }
                }
                """
            }
            let home = try WeirHome(environment: ["SPARE_URL": url("h/d")]) { _ in
                """
                {
                  "daemon": { "log_level": "debug" },
                  "connections": { \(connections.joined(separator: ",")) },
                  "pipelines": { \(pipelines.joined(separator: ",")) }
                }
                """
            }
            var seen = ""
            func ask(_ answer: Answer) { seen += answer.out + answer.err }
            let daemon = try home.run()
            try await eventually(within: .seconds(30), "one streams, three fail") {
                guard let now = try? home.status() else { return false }
                return now.pipelines.filter { $0.state == "failing" }.count == 3
                    && now.pipeline("ok")?.state == "streaming"
            }
            ask(try home.weir("status", "--json"))
            ask(try home.weir("status"))
            for name in urls.keys { ask(try home.weir("status", name)) }
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
            ask(try home.weir("validate", home.configuration))
            ask(try home.weir("status"))
            ask(try home.weir("run", "--once"))
            for name in urls.keys {
                ask(try home.weir("position", "show", name))
                ask(try home.weir("position", "set", name, "now"))
                ask(try home.weir("drop", name))
            }
            // Nor when the URL itself is what is wrong.
            for bad in [
                "postgres://canary:WEIRCANARY%4@h/d", "postgres://c@h/d?WEIRCANARY",
                "postgres://c:WEIRCANARYA@h:x1/d",
            ] {
                try home.configure(TestDatabaseless.configuration(url: bad))
                let refused = try home.weir("run", "--once")
                #expect(refused.code != 0)
                ask(refused)
                ask(try home.weir("status"))
            }
            seen += home.logText()
            for name in try FileManager.default.subpathsOfDirectory(atPath: home.stateDirectory) {
                let path = home.stateDirectory + "/" + name
                seen +=
                    (try? Data(contentsOf: URL(fileURLWithPath: path))).map {
                        String(decoding: $0, as: UTF8.self)
                    } ?? ""
            }
            #expect(seen.count > 5_000, "something was looked at")
            for range in seen.ranges(of: "WEIRCANARY") {
                let start = seen.index(range.lowerBound, offsetBy: -200, limitedBy: seen.startIndex)
                Issue.record("\(seen[(start ?? seen.startIndex)..<range.upperBound])")
            }
            try database.sql("DROP OWNED BY canary; DROP ROLE canary")
        }
    }

    @Suite struct MemoryTests {
        private static let limitKiB = 64 << 10

        @Test func memoryStaysSmallWhateverTheTransactionSize() async throws {
            let database = try await TestDatabase.make()
            try database.sql(
                """
                CREATE TABLE t (id int PRIMARY KEY, v text);
                CREATE PROCEDURE small(count int) LANGUAGE plpgsql AS $$
                BEGIN
                    FOR i IN 1..count LOOP
                        INSERT INTO t VALUES (200000 + i, md5(i::text)); COMMIT;
                    END LOOP;
                END $$
                """)
            let home = try WeirHome(database, tables: ["public.t"])
            let daemon = try home.run()
            try await home.untilStreaming()
            let idle = try memory(of: daemon, "VmRSS")
            try database.sql(
                "INSERT INTO t SELECT g, md5(g::text) || repeat('x', 150) "
                    + "FROM generate_series(1, 200000) g")
            try await untilDelivered(200_000, home)
            let one = try memory(of: daemon, "VmHWM")
            try database.sql("CALL small(200000)")
            try await untilDelivered(400_000, home)
            let many = try memory(of: daemon, "VmHWM")
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
            print(
                "memory: idle \(idle) KiB, peak after one transaction of 200,000 rows \(one) KiB, "
                    + "after 200,000 transactions \(many) KiB")
            if weirBinary.contains("release") { #expect(many <= Self.limitKiB) }
        }

        private func untilDelivered(_ count: Int, _ home: WeirHome) async throws {
            try await eventually(
                within: .seconds(90), "\(count) events delivered", poll: .milliseconds(100)
            ) { try home.status().pipelines.first?.sinks.first?.delivered == count }
        }

        private func memory(of process: ChildProcess, _ name: String) throws -> Int {
            let text = try String(contentsOfFile: "/proc/\(process.pid)/status", encoding: .utf8)
            let line = text.split(separator: "\n").first { $0.hasPrefix(name) }
            return line?.split(separator: " ").compactMap { Int($0) }.first
                ?? line?.split(whereSeparator: \.isWhitespace).compactMap { Int($0) }.first ?? 0
        }
    }
}
