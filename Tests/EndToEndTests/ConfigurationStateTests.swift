import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// The configuration is edited, and the state still knows what was before.
    @Suite struct ConfigurationStateTests {
        private let database: TestDatabase
        private let home: WeirHome

        init() async throws {
            database = try await TestDatabase.make()
            try database.sql(
                "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY)")
            home = try WeirHome { _ in "{}" }
            try configure()
        }

        /// - Parameters:
        ///   - sinks: the fields of file sinks by name, beside their path.
        private func configure(
            pipeline: String = "shop", connection: String = "db", tables: [String] = ["public.t"],
            source: String = "", sinks: [String: String] = ["file": ""]
        ) throws {
            let sinks = sinks.sorted { $0.key < $1.key }.map { name, fields in
                let path = home.folder.file("\(name == "renamed" ? "slow" : name).jsonl")
                return "\"\(name)\": { \"type\": \"file\", \"path\": \"\(path)\"\(fields) }"
            }
            try home.configure(
                """
                {
                  "connections": { "\(connection)": { "type": "postgres", "url": "\(database.url)" } },
                  "pipelines": {
                    "\(pipeline)": {
                      "source": { "connection": "\(connection)", "tables": \(json(tables))\(source) },
                      "sinks": { \(sinks.joined(separator: ", ")) }
                    }
                  }
                }
                """)
        }

        private func insert(_ range: ClosedRange<Int>) throws {
            try database.sql(
                "INSERT INTO t SELECT g, 'x' FROM generate_series(\(range.lowerBound), "
                    + "\(range.upperBound)) g")
        }

        private func ids(_ sink: String) throws -> [Int] {
            try lines(of: home.folder.file("\(sink).jsonl")).map { line in
                let object =
                    try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
                return (object?["key"] as? [String: Any])?["id"] as? Int ?? -1
            }
        }

        private func slots() throws -> [String] {
            try database.sql(
                "SELECT slot_name FROM pg_replication_slots WHERE database = current_database() "
                    + "ORDER BY 1"
            ).split(separator: "\n").map(String.init)
        }

        /// The open gaps as `weir gap list --json` prints them.
        private func gaps() throws -> [[String: Any]] {
            let answer = try home.weir("gap", "list", "--json")
            #expect(answer.code == 0, "\(answer.err)")
            let object =
                try JSONSerialization.jsonObject(with: Data(answer.out.utf8)) as? [String: Any]
            #expect(object?["schema"] as? String == "weir.gaps/1")
            return try #require(object?["gaps"] as? [[String: Any]])
        }

        private func codes() throws -> [String] { try gaps().compactMap { $0["code"] as? String } }

        // MARK: Sinks

        @Test func aRenamedSinkThatWasBehindGetsWhatItHadNotTaken() async throws {
            // The folder of one sink is missing: it is down, and the other goes on.
            let away = home.folder.file("away")
            try configure(sinks: ["file": "", "slow": ""])
            try home.once()
            try insert(1...3)
            try home.once()
            try FileManager.default.createDirectory(
                atPath: away, withIntermediateDirectories: false)
            try configure(sinks: ["file": "", "slow": #", "spill": "0""#])
            let path = home.folder.file("slow.jsonl")
            try FileManager.default.moveItem(atPath: path, toPath: away + "/slow.jsonl")
            try FileManager.default.createDirectory(
                atPath: path, withIntermediateDirectories: false)
            try insert(4...6)
            #expect(try home.weir("run", "--once").code != 0)

            try FileManager.default.removeItem(atPath: path)
            try FileManager.default.moveItem(atPath: away + "/slow.jsonl", toPath: path)
            try configure(sinks: ["file": "", "renamed": ""])
            let answer = try home.weir("run", "--once")
            #expect(answer.code == 0, "\(answer.err)")
            #expect(answer.err.contains("renamed: new, begins at "))
            #expect(answer.err.contains("slow: no longer configured; renamed writes there from "))
            #expect(try ids("slow") == Array(1...6))
            #expect(try Set(ids("file")) == Set(1...6))
            #expect(try gaps().isEmpty)
            // Where it began can be seen for ever.
            let status = try home.weir("status", "--json")
            #expect(status.out.contains(#/"began" : "[0-9A-F]+\/[0-9A-F]+"/#))
        }

        @Test func aChangedKeyIsSaidDeclaredAndShownUntilItIsResolved() async throws {
            try home.once()
            try insert(1...2)
            try home.once()
            try configure(
                tables: ["public.t", "public.u"], sinks: ["file": #", "columns": ["id"]"#])
            let answer = try home.weir("run", "--once")
            #expect(answer.code == 0, "\(answer.err)")
            #expect(answer.err.contains("columns was the default, is "))
            #expect(answer.err.contains(#"added \"public.u\""#))
            #expect(try Set(codes()) == ["engine.config_changed", "engine.tables_added"])
            #expect(try home.weir("run", "--once").code == 0)
            #expect(try gaps().count == 2, "said once")

            // Beside a daemon, with the numbers that are shown.
            let daemon = try home.run()
            try await home.untilStreaming()
            let shown = try home.weir("status").out
            for gap in try gaps() {
                let id = try #require(gap["id"] as? Int)
                #expect(gap["pipeline"] as? String == "shop")
                #expect(shown.contains("gap \(id) since"))
                #expect(shown.contains("weir gap resolve \(id)"))
            }
            let first = try #require(try gaps().first?["id"] as? Int)
            let resolved = try home.weir("gap", "resolve", "\(first)")
            #expect(resolved.code == 0 && resolved.out == "resolved gap \(first)\n")
            #expect(try !home.weir("status").out.contains("gap \(first) since"))
            let again = try home.weir("gap", "resolve", "\(first)")
            #expect(again.code == 64 && again.err.contains("weir gap list"))
            #expect(try home.weir("gap", "resolve", "--all", "shp").code == 64)
            #expect(try home.weir("gap", "resolve").code == 64)
            #expect(try home.weir("gap", "resolve", "--all", "shop").code == 0)
            #expect(try gaps().isEmpty)
            #expect(try home.weir("gap", "list").out == "no gaps\n")
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
        }

        // MARK: Pipelines

        @Test func aPipelineThatIsGoneIsShownEverywhereAndDroppedFromTheStateAlone() async throws {
            try home.once()
            try insert(1...2)
            try configure(pipeline: "store")
            let answer = try home.weir("run", "--once")
            #expect(answer.code == 0, "\(answer.err)")
            let words = [
                "is no longer configured and still holds slot weir_shop of connection db",
                "weir drop shop",
            ]
            for word in words { #expect(answer.err.contains(word), "log: \(word)") }
            // As after a change of the name: what it did not deliver is with the old slot.
            #expect(try codes() == ["engine.pipeline_replaced"])
            #expect(try slots() == ["weir_shop", "weir_store"])

            let down = try home.weir("status")
            #expect(down.code == 69)
            for word in words { #expect(down.out.contains(word), "offline: \(word)") }
            #expect(down.out.contains("Slot weir_shop keeps "))
            let daemon = try home.run()
            try await home.untilStreaming()
            try await eventually("the server was asked") {
                try home.weir("status").out.contains("Slot weir_shop keeps ")
            }
            let document = try home.weir("status", "--json").out
            #expect(document.contains(#""orphans" : ["#) && document.contains("retained_bytes"))
            #expect(try home.weir("status", "shop").out.contains("weir drop shop"))

            // Beside the daemon, which has nothing of it.
            let plan = try home.weir("drop", "shop")
            #expect(plan.code == 0, "\(plan.err)")
            #expect(plan.out.contains("Drop replication slot \"weir_shop\""))
            #expect(try slots() == ["weir_shop", "weir_store"])
            let drop = try home.weir("drop", "shop", "--yes")
            #expect(drop.code == 0, "\(drop.err)")
            #expect(try slots() == ["weir_store"])
            #expect(try database.sql("SELECT pubname FROM pg_publication") == "weir_store")
            #expect(try !home.weir("status").out.contains("weir drop shop"))
            #expect(try home.weir("drop", "shop", "--yes").code == 64, "it is forgotten")
            #expect(try home.weir("drop", "store", "--yes").code == 69, "that one runs")
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
        }

        @Test func aFileUnderAnotherPathIsNoLoss() async throws {
            try home.once()
            try insert(1...2)
            try home.once()
            let text = try String(contentsOfFile: home.configuration, encoding: .utf8)
            try home.configure(text.replacing("/file.jsonl", with: "/other.jsonl"))
            try insert(3...3)
            try home.once()
            #expect(try ids("file") == [1, 2])
            #expect(try ids("other") == [3])
            let gap = try #require(try gaps().first)
            #expect(try codes() == ["engine.config_changed"])
            let message = try #require(gap["message"] as? String)
            #expect(message.contains("/file.jsonl\" is complete up to "))
            #expect(message.hasSuffix("/other.jsonl\""), "\(message)")
            let hint = try #require(gap["hint"] as? String)
            let command = try #require(hint.firstMatch(of: /weir gap resolve \d+/))
            #expect(try home.shell(String(command.output)).code == 0)
            #expect(try gaps().isEmpty)
        }

        @Test func theHintOfARenamedPipelineLosesNothing() async throws {
            try home.once()
            try insert(1...2)
            try configure(pipeline: "store")
            try home.once()
            let hint = try #require(try gaps().first?["hint"] as? String)
            #expect(hint.contains("name it \"shop\" again"))
            #expect(hint.contains("weir drop store --yes"))
            try configure()
            #expect(try home.weir("drop", "store", "--yes").code == 0)
            try home.once()
            #expect(try ids("file") == [1, 2])
            #expect(try gaps().isEmpty)
            #expect(try slots() == ["weir_shop"])
        }

        @Test func withoutItsConnectionDropSaysWhatToRunByHand() async throws {
            try home.once()
            try configure(pipeline: "store", connection: "other")
            let refused = try home.weir("drop", "shop", "--yes")
            #expect(refused.code == 69, "\(refused.out)")
            #expect(refused.err.contains("error engine.drop_incomplete: "))
            #expect(refused.err.contains("\"db\""))
            #expect(try slots() == ["weir_shop"])
            let statements = refused.err.split(separator: "\n").map {
                $0.trimmingCharacters(in: .whitespaces)
            }.filter { $0.hasSuffix(";") }
            #expect(statements.count == 2)
            for statement in statements { try database.sql(statement) }
            #expect(try slots().isEmpty)
            #expect(try database.sql("SELECT pubname FROM pg_publication").isEmpty)
            let forgotten = try home.weir("drop", "shop", "--yes", "--forget")
            #expect(forgotten.code == 0, "\(forgotten.err)")
            #expect(try home.weir("drop", "shop").code == 64)
        }

        @Test func whatAnotherPipelineUsesIsNotDropped() async throws {
            try configure(source: #", "slot": "own""#)
            try home.once()
            try configure(pipeline: "store", source: #", "slot": "own""#)
            #expect(try home.weir("run", "--once").err.contains("postgres.slot_unknown"))
            #expect(try home.weir("position", "set", "store", "confirmed", "--yes").code == 0)
            let drop = try home.weir("drop", "shop", "--yes")
            #expect(drop.code == 0, "\(drop.err)")
            #expect(drop.out.contains("left replication slot \"own\": another pipeline uses it"))
            #expect(try slots() == ["own"])
            try home.once()
        }

        /// Neither exclusive nor remembered anywhere but in the file: another pipeline names it.
        @Test func aPublicationThatAnotherPipelineNamesIsNotDropped() async throws {
            try home.once()
            try configure(pipeline: "store", source: #", "publication": "weir_shop""#)
            let plan = try home.weir("drop", "shop")
            #expect(plan.out.contains("Leave publication \"weir_shop\""), "\(plan.err)")
            #expect(plan.out.contains("Drop replication slot \"weir_shop\""))
            let drop = try home.weir("drop", "shop", "--yes")
            #expect(drop.code == 0, "\(drop.err)")
            #expect(drop.out.contains("left publication \"weir_shop\": another pipeline uses it"))
            #expect(try slots().isEmpty)
            #expect(try database.sql("SELECT pubname FROM pg_publication") == "weir_shop")
            try home.once()
        }

        /// What another pipeline would use is in a file that cannot be read.
        @Test func whileTheConfigurationCannotBeReadDropLeavesWhatMayBeShared() async throws {
            try home.once()
            let lacking = #"{ "env": "WEIR_TEST_UNSET_URL" }"#
            func configure(_ url: String) throws {
                try home.configure(
                    """
                    {
                      "connections": {
                        "db": { "type": "postgres", "url": "\(database.url)" },
                        "other": { "type": "postgres", "url": \(url) } },
                      "pipelines": {
                        "store": {
                          "source": { "connection": "other", "tables": ["public.t"],
                                      "slot": "weir_shop" },
                          "sinks": { "blackhole": { "type": "blackhole" } } } }
                    }
                    """)
            }
            try configure(lacking)
            for words in [["drop", "shop"], ["drop", "shop", "--yes"]] {
                let refused = try home.weir(arguments: words)
                #expect(refused.code == 69, "\(refused.out)")
                #expect(refused.err.contains("WEIR_TEST_UNSET_URL"))
                #expect(refused.err.contains("what other pipelines use of it is not known"))
                #expect(refused.err.contains("weir drop shop --yes"))
            }
            #expect(try slots() == ["weir_shop"])
            // The hint: once it can be read, the slot is known to be another's, by its server.
            try configure("\"\(database.url)\"")
            let drop = try home.weir("drop", "shop", "--yes")
            #expect(drop.code == 0, "\(drop.err)")
            #expect(drop.out.contains("left replication slot \"weir_shop\""))
            #expect(try slots() == ["weir_shop"])
            try configure(lacking)
            #expect(
                try home.weir("drop", "shop", "--yes", "--forget").code == 78, "it is forgotten")
        }

        @Test func whatIsForgottenWithoutAConfigurationIsNamedAndStays() async throws {
            try home.once()
            try home.configure("{")
            let forgotten = try home.weir("drop", "shop", "--yes", "--forget")
            #expect(forgotten.code == 0, "\(forgotten.err)")
            #expect(forgotten.out.contains("Left as it is: the configuration cannot be read"))
            let sql = "SELECT pg_drop_replication_slot(E'weir_shop');"
            #expect(forgotten.out.contains(sql))
            #expect(try slots() == ["weir_shop"])
            try database.sql(sql)
        }

        /// It still has to tell its own writes apart in what is not read yet.
        @Test func theOriginOfARenamedPipelineIsNotDropped() async throws {
            let copy = try await PostgresCopy.make(["public.t"])
            try copy.source.sql("CREATE TABLE t (id int PRIMARY KEY)")
            func configure(_ pipeline: String) throws {
                try copy.home.configure(
                    PostgresCopy.configuration(
                        copy.source, copy.target,
                        [
                            pipeline: CopyPipeline(
                                ["public.t"],
                                sinks: ["copy": #""write": "table", "origin": "weir_own""#])
                        ]))
            }
            func origins() throws -> String {
                try copy.target.sql(
                    "SELECT roname FROM pg_replication_origin WHERE roname = 'weir_own'")
            }
            try configure("shop")
            try copy.home.once()
            try configure("store")
            let drop = try copy.home.weir("drop", "shop", "--yes")
            #expect(drop.code == 0, "\(drop.err)")
            #expect(drop.out.contains("left replication origin \"weir_own\""))
            #expect(drop.out.contains("dropped replication slot \"weir_shop\""))
            #expect(try origins() == "weir_own")
            // The last one takes it away.
            try copy.home.once()
            #expect(try copy.home.weir("drop", "store", "--yes").code == 0)
            #expect(try origins().isEmpty)
        }

        @Test func dropClearsTheTargetSoThatTheNameCanBeginAnew() async throws {
            let copy = try await PostgresCopy.make(["public.t"])
            try copy.source.sql("CREATE TABLE t (id int PRIMARY KEY)")
            try copy.home.once()
            try copy.source.sql("INSERT INTO t VALUES (1)")
            try copy.home.once()
            #expect(try copy.home.weir("drop", "shop", "--yes").code == 0)
            try copy.home.once()
            try copy.source.sql("INSERT INTO t VALUES (2)")
            try copy.home.once()
            #expect(try copy.target.sql("SELECT id FROM t ORDER BY 1") == "1\n2")
        }

        @Test func aSinkThatIsGoneSaysWhatItLeavesAtItsTargetAndHowToRemoveIt() async throws {
            let copy = try await PostgresCopy.make(["public.t"])
            try copy.source.sql("CREATE TABLE t (id int PRIMARY KEY)")
            func once(_ sink: String) throws -> String {
                try copy.home.configure(
                    PostgresCopy.configuration(
                        copy.source, copy.target,
                        ["shop": CopyPipeline(["public.t"], sinks: [sink: #""write": "table""#])]))
                let answer = try copy.home.weir("run", "--once")
                #expect(answer.code == 0, "\(answer.err)")
                return answer.err
            }
            _ = try once("copy")
            try copy.source.sql("INSERT INTO t VALUES (1)")
            _ = try once("copy")
            let log = try once("other").split(separator: "\n").compactMap { line in
                let object = try JSONSerialization.jsonObject(with: Data(line.utf8))
                return (object as? [String: Any])?["msg"] as? String
            }
            let line = try #require(log.first { $0.contains("its own rows stay at ") })
            let sql = try #require(
                line.firstRange(of: "DELETE FROM ").map { line[$0.lowerBound...] })
            try copy.target.sql(String(sql))
            #expect(try copy.target.sql("SELECT sink FROM weir_position") == "other")
            // The name can be used again.
            _ = try once("copy")
            try copy.source.sql("INSERT INTO t VALUES (2)")
            _ = try once("copy")
            try copy.expectEqual("t")
        }

        // MARK: Start, status, position

        @Test func aSlotThatIsMissingIsSaidWhileTheDaemonIsDown() async throws {
            #expect(try !home.weir("status").out.contains("engine.source_lost"), "never started")
            try home.once()
            #expect(try !home.weir("status").out.contains("engine.source_lost"))
            try database.dropSlots()
            let down = try home.weir("status")
            #expect(down.code == 69)
            #expect(down.out.contains("(engine.source_lost)"))
            #expect(down.out.contains("weir position set shop now --yes"))
            #expect(try home.weir("position", "set", "shop", "now", "--yes").code == 0)
            #expect(try !home.weir("status").out.contains("engine.source_lost"))
            try home.once()
            #expect(try codes() == ["engine.position_set"])
        }

        @Test func goingOnInPlaceDeclaresNothingAndReadsNothingAgain() async throws {
            let redis = try await RedisServer.start()
            try database.sql("INSERT INTO t SELECT g, 'x' FROM generate_series(1, 50) g")
            try home.configure(
                """
                {
                  "connections": {
                    "db": { "type": "postgres", "url": "\(database.url)" },
                    "cache": { "type": "redis", "url": "\(redis.url())" }
                  },
                  "pipelines": { "shop": {
                    "source": { "connection": "db", "tables": ["public.t"] },
                    "sinks": {
                      "json": { "connection": "cache", "write": "json", "key": "t:{id}" },
                      "gone": { "connection": "cache", "write": "invalidate", "key": "v:{id}" }
                    }
                  } }
                }
                """)
            try home.once()
            try insert(51...52)
            try home.once()
            // Rows that a re-read would bring, and a key it would take away.
            #expect(try redis.get("t:1") == nil && redis.get("t:51") != nil)
            _ = try redis.command("SET", "v:1", "kept")
            let plan = try home.weir("position", "set", "shop", "confirmed")
            #expect(plan.out.contains("nothing is skipped"), "\(plan.out)\(plan.err)")
            #expect(try home.weir("position", "set", "shop", "confirmed", "--yes").code == 0)
            #expect(try gaps().isEmpty)
            try insert(53...53)
            let answer = try home.weir("run", "--once")
            #expect(answer.code == 0, "\(answer.err)")
            #expect(!answer.err.contains("again"), "\(answer.err)")
            #expect(try redis.get("t:1") == nil && redis.get("t:53") != nil)
            #expect(try redis.get("v:1") != nil)
        }

        @Test func startTellsAnEditedConfigurationAndAStoppedPipelineApart() async throws {
            defer { _ = try? home.weir("stop") }
            let start = try home.weir("start")
            #expect(start.code == 0, "\(start.err)")
            #expect(start.out.contains(#/file begins at [0-9A-F]+\/[0-9A-F]+: /#))
            #expect(try home.weir("start").code == 0)
            try configure(sinks: ["file": #", "format": "row""#])
            let edited = try home.weir("start")
            #expect(edited.code == 69)
            #expect(edited.err.contains("as it was before it was changed"))
            #expect(edited.err.contains(", then weir start -c "))
            #expect(try home.weir("stop").code == 0)
            let changed = try home.weir("start")
            #expect(changed.code == 0, "a gap is no failure: \(changed.err)")
            #expect(changed.err.contains("engine.config_changed"))
            #expect(try home.weir("stop").code == 0)
            try database.dropSlots()
            let stopped = try home.weir("start")
            #expect(stopped.code == 69)
            #expect(stopped.err.contains("error postgres.slot_missing"))
            #expect(stopped.err.contains("stopped: shop"))
            let again = try home.weir("start")
            #expect(again.code == 69 && again.err.contains(", then weir start -c "))
        }
    }
}
