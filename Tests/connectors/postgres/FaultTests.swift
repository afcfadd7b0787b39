import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSource

extension PostgresSourceTests {
    /// What happens to the connection and to the slot, and what Weir says about it.
    @Suite struct Faults {
        private static let table = "CREATE TABLE t (id int PRIMARY KEY, v text)"

        @Test("CORRECTNESS 8: a source that is only acknowledged stays connected, its socket full")
        func acknowledgingKeepsTheConnection() async throws {
            // Short for a server, long for a test machine that runs other tests beside this one:
            // nobody answers the server while psql runs.
            let server = try await PostgresServer.start(settings: ["wal_sender_timeout": "4s"])
            let database = try await TestDatabase(Self.table, server: server)
            let source = try await SourceHarness.open(database, tables: ["t"])
            let keepalive = try #require(source.start?.keepalive)
            #expect(keepalive <= .milliseconds(1000))
            let sender = try database.slot("active_pid")
            try database.run(
                "INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 30000) n")
            let end = ContinuousClock.now + .seconds(9)
            try await eventually("more than twice the timeout has passed", poll: keepalive) {
                try await source.source.acknowledge(nil)
                return ContinuousClock.now >= end
            }
            #expect(try await source.drainCount() == 30000)
            // Nor does a reader that finds nothing fall silent.
            try await source.readBatch(within: .seconds(6))
            #expect(try database.slot("active_pid") == sender)
        }

        @Test(
            "CORRECTNESS 9: a fast shutdown is not held up by what was not acknowledged",
            arguments: [true, false])
        func fastShutdown(isReading: Bool) async throws {
            let server = try await PostgresServer.start()
            let database = try await TestDatabase(Self.table, server: server)
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run(
                "INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) n")
            if isReading { #expect(try await source.drainCount() == 20000) }
            let began = ContinuousClock.now
            async let stopped: Void = server.stop(.fast)
            let error = try await #require(throws: WeirError.self) {
                try await eventually("the source notices", poll: .milliseconds(50)) {
                    if isReading {
                        _ = try await source.read()
                    } else {
                        try await source.source.acknowledge(nil)
                    }
                    return false
                }
            }
            #expect(error.disposition == .transient)
            await source.source.close()
            try await stopped
            #expect(began.duration(to: .now) < .seconds(10))
            let refused = try await #require(throws: WeirError.self) { try await source.open() }
            #expect(refused.code.name == "postgres.connection_failed")
            #expect(refused.disposition == .transient)
            try await server.restart()
            try await source.open()
            try database.run("INSERT INTO t VALUES (0)")
            #expect(try await source.drainCount() == (isReading ? 1 : 20001))
        }

        @Test(
            "CORRECTNESS 10: an invalidated slot is a declared gap, not a retry",
            arguments: PostgresVersion.allCases)
        func invalidatedSlot(version: PostgresVersion) async throws {
            let server = try await PostgresServer.start(
                version: version, settings: ["max_slot_wal_keep_size": "1MB"],
                initdbArguments: ["--wal-segsize=1"])
            let database = try await TestDatabase(Self.table, version: version, server: server)
            let source = try await SourceHarness.open(database, tables: ["t"])
            _ = try await source.drain()
            try database.run("INSERT INTO t VALUES (1)")
            // Connected, but not reading: the server ends the stream to take its log away.
            for _ in 1...5 {
                try database.run(
                    """
                    SELECT pg_logical_emit_message(false, 'x', repeat('x', 300000));
                    SELECT pg_switch_wal()
                    """)
            }
            try database.run("CHECKPOINT")
            try await eventually("the slot is lost") { try database.slot("wal_status") == "lost" }
            let ended = try await #require(throws: WeirError.self) {
                for _ in 0..<100 { _ = try await source.read() }
            }
            #expect(ended.disposition != .blocked)
            let lost = try await #require(throws: WeirError.self) { try await source.open() }
            #expect(lost.code.name == "postgres.slot_invalidated")
            #expect(lost.disposition == .positionLost)
            #expect(lost.hint?.contains("weir position set \(database.name) now --yes") == true)
            let reason = version == .wheel18 ? " (wal_removed)" : ""
            #expect(lost.message.hasSuffix("was invalidated\(reason)"))
            #expect(try await source.source.probe(held: nil).status == "lost")

            // The server's own words, should it happen between our look and the start.
            let failure = try startFailure(database, at: "0/0")
            #expect(failure.code.name == "postgres.slot_invalidated")
            #expect(failure.disposition == .positionLost)

            let plan = try await source.source.planSeek(to: "now", from: source.stored)
            #expect(plan.effects.contains { $0.contains("a gap") })
            try await source.open(atStored: source.source.seek(plan))
            try database.run("INSERT INTO t VALUES (2)")
            #expect(try await source.drain().compactMap { $0.after?["id"] } == [2])
        }

        @Test("CORRECTNESS 10: a slot in use is waited for", arguments: PostgresVersion.allCases)
        func activeSlot(version: PostgresVersion) async throws {
            let database = try await TestDatabase(Self.table, version: version)
            let source = try await SourceHarness.open(database, tables: ["t"])
            let second = try SourceHarness(database, tables: ["t"], notes: source.notes)
            let error = try await #require(throws: WeirError.self) {
                try await second.open(atStored: source.stored, waits: false)
            }
            #expect(error.code.name == "postgres.slot_active")
            #expect(error.disposition == .transient)
            #expect(try await source.source.probe(held: nil).active)
            // The commands of the hint: who that is, and its end.
            let commands = try #require(error.hint).matches(of: #/SELECT [^;]*;/#)
            #expect(commands.count == 2)
            for command in commands { try database.run(String(command.output)) }
            try await second.open(atStored: source.stored)
            #expect(try await second.drain().isEmpty)
            await source.source.close()
        }

        @Test(
            "CORRECTNESS 10, 11: a slot dropped while streaming is a gap, and never made anew",
            arguments: PostgresVersion.allCases)
        func droppedSlot(version: PostgresVersion) async throws {
            let database = try await TestDatabase(Self.table, version: version)
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run("SELECT pg_terminate_backend(\(database.slot("active_pid")))")
            try await eventually("the slot is free") { try database.slot("active") == "f" }
            try database.run("SELECT pg_drop_replication_slot('\(database.slot)')")
            let ended = try await #require(throws: WeirError.self) {
                for _ in 0..<100 { _ = try await source.read() }
            }
            #expect(ended.code.name == "postgres.connection_failed")
            #expect(ended.disposition == .transient)
            for _ in 1...2 {
                let lost = try await #require(throws: WeirError.self) { try await source.open() }
                #expect(lost.code.name == "postgres.slot_missing")
                #expect(lost.disposition == .positionLost)
                #expect(lost.hint?.contains("weir position set \(database.name) now --yes") == true)
                #expect(try database.slot("slot_name") == "")
            }
            #expect(try await source.source.probe(held: nil).status == "missing")
            let failure = try startFailure(database, at: "0/0")
            #expect(failure.code.name == "postgres.slot_missing")
            #expect(failure.disposition == .positionLost)
        }

        @Test("CORRECTNESS 10: a slot of another kind, plugin or database is not ours to use")
        func unfitSlot() async throws {
            let database = try await TestDatabase(Self.table)
            let other = try await TestDatabase()
            let source = try await SourceHarness.open(database, tables: ["t"])
            await source.source.close()
            try await eventually("the slot is free") { try database.slot("active") == "f" }
            try database.run("SELECT pg_drop_replication_slot('\(database.slot)')")
            for (place, make) in [
                (database, "pg_create_physical_replication_slot('\(database.slot)')"),
                (
                    database,
                    "pg_create_logical_replication_slot('\(database.slot)', 'test_decoding')"
                ),
                (other, "pg_create_logical_replication_slot('\(database.slot)', 'pgoutput')"),
            ] {
                try place.run("SELECT \(make)")
                let error = try await #require(throws: WeirError.self) { try await source.open() }
                #expect(error.code.name == "postgres.slot_unfit")
                #expect(error.disposition == .blocked)
                // The hint makes room for ours.
                let hint = try #require(error.hint)
                let start = try #require(hint.firstRange(of: "SELECT "))
                try place.run(String(hint[start.lowerBound...]))
                #expect(try database.slot("slot_name") == "")
            }
        }

        @Test("CORRECTNESS 12: a position of another server is refused before anything is read")
        func otherServer() async throws {
            let database = try await TestDatabase(Self.table)
            let elsewhere = try await TestDatabase(Self.table, version: .wheel16)
            let source = try await SourceHarness.open(database, tables: ["t"])
            let moved = try SourceHarness(
                database, tables: ["t"], url: elsewhere.server.url(database: elsewhere.name),
                notes: source.notes)
            let error = try await #require(throws: WeirError.self) {
                try await moved.open(atStored: source.stored)
            }
            #expect(error.code.name == "postgres.identity_changed")
            #expect(error.disposition == .positionLost)
            #expect(error.message.contains("system is"))

            let neighbour = try await TestDatabase(Self.table)
            let stray = try SourceHarness(
                database, tables: ["t"], url: neighbour.server.url(database: neighbour.name),
                notes: source.notes)
            let other = try await #require(throws: WeirError.self) {
                try await stray.open(atStored: source.stored)
            }
            #expect(other.code.name == "postgres.identity_changed")
            #expect(other.message.contains(#"database is "\#(neighbour.name)""#))
            #expect(
                try elsewhere.slot("slot_name") == "")
        }

        @Test("CORRECTNESS 12: a server restored from a backup is behind us, and we say so")
        func restoredServer() async throws {
            let server = try await PostgresServer.start()
            let database = try await TestDatabase(Self.table, server: server)
            let source = try await SourceHarness.open(database, tables: ["t"])
            _ = try await source.drain()
            try await source.acknowledge()
            await source.source.close()
            try await server.stop()
            let backup = "\(server.directory)/backup"
            #expect(
                try runProcess("cp", ["-a", server.dataDirectory, backup]).status == .exited(0))
            try await server.restart()
            try await source.open()
            try database.run("INSERT INTO t SELECT n FROM generate_series(1, 10000) n")
            #expect(try await source.drainCount() == 10000)
            await source.source.close()
            try await server.stop()
            #expect(try runProcess("rm", ["-r", server.dataDirectory]).status == .exited(0))
            #expect(try runProcess("mv", [backup, server.dataDirectory]).status == .exited(0))
            try await server.restart()
            let error = try await #require(throws: WeirError.self) { try await source.open() }
            #expect(error.code.name == "postgres.position_ahead")
            #expect(error.disposition == .positionLost)
            // The other history has passed the position when it is looked at again.
            try database.run("INSERT INTO t SELECT n FROM generate_series(1, 20000) n")
            let later = try await #require(throws: WeirError.self) { try await source.open() }
            #expect(later.code.name == "postgres.position_ahead")
            #expect(later.message.contains("earlier start"))
        }

        @Test(
            "CORRECTNESS 11, 12: after a promotion we go on with the slot, or declare the gap",
            arguments: [true, false])
        func promotion(keepsSlot: Bool) async throws {
            let server = try await PostgresServer.start()
            let database = try await TestDatabase(Self.table, server: server)
            let source = try await SourceHarness.open(database, tables: ["t"])
            let first = try #require(source.start?.identity)
            try database.run("INSERT INTO t VALUES (1)")
            #expect(try await source.drain().count == 1)
            await source.source.close()
            try database.run("INSERT INTO t VALUES (2)")
            try await server.stop()
            // pg_basebackup leaves slots out; an operator may copy them.
            if !keepsSlot {
                let slot = "\(server.dataDirectory)/pg_replslot/\(database.slot)"
                #expect(try runProcess("rm", ["-r", slot]).status == .exited(0))
            }
            let signal = "\(server.dataDirectory)/standby.signal"
            #expect(try runProcess("touch", [signal]).status == .exited(0))
            try await server.restart()
            #expect(try server.psql("SELECT pg_promote()") == "t")
            if keepsSlot {
                let start = try await source.open()
                #expect(first["timeline"] == "1")
                #expect(start.identity["timeline"] == "2")
                #expect(start.identity["system"] == first["system"])
                #expect(source.findings == ["postgres.failover"])
                #expect(source.reports.findings.first?.message.contains("timeline 2") == true)
                try database.run("INSERT INTO t VALUES (3)")
                #expect(try await source.drain().compactMap { $0.after?["id"] } == [2, 3])
            } else {
                let error = try await #require(throws: WeirError.self) { try await source.open() }
                #expect(error.code.name == "postgres.slot_missing")
                #expect(error.disposition == .positionLost)
                #expect(try database.slot("slot_name") == "")
            }
        }

        @Test(
            "CORRECTNESS 10: no room is told from no such database or role"
        )
        func refusedConnections() async throws {
            let database = try await TestDatabase(Self.table)
            try database.run(
                "CREATE ROLE full_\(database.name) LOGIN REPLICATION CONNECTION LIMIT 0")
            for (url, code, hint) in [
                (
                    database.server.url(database: database.name, user: "full_\(database.name)"),
                    "postgres.limit_reached", "max_connections"
                ),
                (database.server.url(database: "none"), "postgres.connection_failed", "names"),
                (
                    database.server.url(database: database.name, user: "nobody"),
                    "postgres.connection_failed", "names"
                ),
            ] {
                let source = try SourceHarness(database, tables: ["t"], url: url)
                let error = try await #require(throws: WeirError.self) { try await source.open() }
                #expect(error.code.name == code)
                #expect(error.disposition == .transient)
                #expect(error.hint?.contains(hint) == true)
                // libpq's verbose form is for us alone.
                #expect(!error.message.contains("LOCATION"))
            }
            try database.run("DROP ROLE full_\(database.name)")
        }

        /// What START_REPLICATION itself says, as Weir's error.
        private func startFailure(_ database: TestDatabase, at lsn: String) throws -> WeirError {
            let string = try ConnectionString(database.server.url(database: database.name))
            let connection = try PostgresConnection(string, mode: .replication, name: "test")
            let failure = try #require(throws: PostgresFailure.self) {
                try connection.query(
                    "START_REPLICATION SLOT \(database.slot) LOGICAL \(lsn) (proto_version '1', "
                        + "publication_names '\(database.slot)')")
            }
            return FailureMap(
                place: string.place, pipeline: database.pipeline, slot: database.slot,
                role: "postgres", database: database.name
            ).error(failure, doing: "start replication")
        }
    }
}
