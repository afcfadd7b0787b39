import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSource

extension PostgresSourceTests {
    /// Transactions that hold a slot up or back, and those that it cannot send.
    @Suite struct SlotWaits {
        private static let table = "CREATE TABLE t (id int PRIMARY KEY, v int)"

        private static func server() async throws -> PostgresServer {
            try await PostgresServer.start(settings: ["max_prepared_transactions": "5"])
        }

        @Test("CORRECTNESS 78: a first start says what the server waits for, and goes on behind it")
        func namesTheTransaction() async throws {
            let database = try await TestDatabase(Self.table, server: Self.server())
            try database.run("BEGIN; INSERT INTO t VALUES (1, 1); PREPARE TRANSACTION 'forgotten'")
            let source = try SourceHarness(database, tables: ["t"])
            let connector = source.source
            let opening = Task { try await connector.open(at: nil) }
            try await eventually("it says what it waits for") {
                source.reports.findings.contains {
                    $0.code.name == "postgres.slot_waits" && $0.message.contains("\"forgotten\"")
                }
            }
            let hint = source.reports.findings.first { $0.code.name == "postgres.slot_waits" }?.hint
            for sql in TableChanges.statements(hint) { try database.run(sql) }
            source.opened(try await opening.value)
            #expect(source.findings.isEmpty)
            try database.run("INSERT INTO t VALUES (2, 2)")
            #expect(try await source.drain().compactMap { $0.after?["id"] } == [2])
        }

        @Test("CORRECTNESS 78: a slot that a start cut short left half made is taken up")
        func halfMadeSlot() async throws {
            let database = try await TestDatabase(Self.table, server: Self.server())
            try database.run("BEGIN; INSERT INTO t VALUES (1, 1); PREPARE TRANSACTION 'x'")
            let source = try SourceHarness(database, tables: ["t"])
            // What a start leaves that was killed while the server made the slot.
            let system = try database.run("SELECT system_identifier FROM pg_control_system()")
            try await source.notes.set("slot", "\(system) \(database.slot)")
            try await source.notes.set("publication", database.slot)
            try database.run(
                """
                CREATE PUBLICATION \(database.slot) FOR TABLE ONLY t
                WITH (publish_via_partition_root = true)
                """)
            async let made: String = Task.detached {
                try database.run(
                    """
                    SELECT slot_name FROM pg_create_logical_replication_slot(
                        '\(database.slot)', 'pgoutput')
                    """)
            }.value
            try await eventually("the slot is being made") {
                try database.slot("confirmed_flush_lsn IS NULL") == "t"
            }
            let error = try await #require(throws: WeirError.self) {
                try await source.open(atStored: nil, waits: false)
            }
            #expect(error.code.name == "postgres.slot_waits")
            #expect(error.disposition == .transient)
            try database.run("COMMIT PREPARED 'x'")
            #expect(try await made == database.slot)
            try await source.open(atStored: nil)
            try database.run("INSERT INTO t VALUES (2, 2)")
            #expect(try await source.drain().compactMap { $0.after?["id"] } == [2])
        }

        @Test("CORRECTNESS 78: a start that is ended leaves no slot behind that waits")
        func cancelledStart() async throws {
            let database = try await TestDatabase(Self.table, server: Self.server())
            try database.run("BEGIN; INSERT INTO t VALUES (1, 1); PREPARE TRANSACTION 'x'")
            let source = try SourceHarness(database, tables: ["t"])
            let connector = source.source
            let opening = Task { try await connector.open(at: nil) }
            try await eventually("the slot is being made") {
                try database.slot("confirmed_flush_lsn IS NULL") == "t"
            }
            opening.cancel()
            await #expect(throws: WeirError.self) { _ = try await opening.value }
            try await eventually("the slot is gone") { try database.slot("slot_name") == "" }
        }

        @Test("CORRECTNESS 78: a transaction that holds the slot back is named while it does")
        func oldTransactions() async throws {
            let database = try await TestDatabase(Self.table, server: Self.server())
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run("BEGIN; INSERT INTO t VALUES (1, 1); PREPARE TRANSACTION 'p''1'")
            try await source.probe()
            // It may be on its way.
            #expect(source.findings.isEmpty)
            let rows = try database.run(
                OpenTransaction.query(preparedSeconds: 0, runningSeconds: 0))
            #expect(rows.hasPrefix("p'1||postgres|\(database.name)|"))
            let transaction = try #require(
                OpenTransaction(row: ["p'1", nil, "postgres", database.name, "then", "", ""]))
            #expect(transaction.words.contains("prepared transaction \"p'1\""))
            for sql in TableChanges.statements(
                transaction.cure.replacing("COMMIT PREPARED or ", with: ""))
            {
                try database.run(sql)
            }
            #expect(try database.run("SELECT count(*) FROM pg_prepared_xacts") == "0")
        }

        @Test("CORRECTNESS 81: what the server cannot send stops us, with the way on behind it")
        func transactionThatCannotBeSent() async throws {
            // Division by zero in a row filter comes again at the same place, as a value that is
            // too large to be written as text does.
            let database = try await TestDatabase(
                """
                \(Self.table);
                CREATE PUBLICATION mine FOR TABLE t WHERE (10 / v > 0) WITH (publish = 'insert')
                """)
            let source = try await SourceHarness.open(
                database, tables: ["t"], config: ["publication": .string("mine")])
            try database.run(
                """
                INSERT INTO t VALUES (1, 1); INSERT INTO t VALUES (2, 2), (3, 0);
                INSERT INTO t VALUES (4, 4)
                """)
            var ids: [JSON] = []
            let error = try await #require(throws: WeirError.self) {
                for _ in 0..<50 { ids += try await source.read().compactMap { $0.after?["id"] } }
            }
            #expect(error.code.name == "postgres.stream_refused")
            #expect(error.disposition == .blocked)
            #expect(error.message.contains("division by zero"))
            let words = (error.hint ?? "").split(separator: " ")
            #expect(error.hint?.contains("weir position set \(database.name) ") == true)
            let target = try #require(words.dropLast().last.map(String.init))
            await source.source.close()
            let plan = try await source.source.planSeek(to: target, from: source.stored)
            try await source.open(atStored: source.source.seek(plan))
            // Only that transaction is left out.
            #expect(try await source.drain().compactMap { $0.after?["id"] } == [4])
        }

        @Test("CORRECTNESS 81: a value that is too large as text is told from passing errors")
        func failuresOfTheStream() {
            let map = FailureMap(
                place: "h", pipeline: "p", slot: "s", role: "r", database: "d")
            func error(_ state: String, _ message: String) -> WeirError {
                map.error(
                    PostgresFailure(.statement, message, sqlState: state), reading: LSN(0x10))
            }
            let large = error("XX000", "invalid memory alloc request size 1120000003")
            #expect(large.code.name == "postgres.stream_refused")
            #expect(large.disposition == .blocked)
            #expect(large.hint?.hasSuffix("weir position set p 0/11 --yes") == true)
            #expect(large.detail?.contains("0/10") == true)
            #expect(error("53200", "out of memory").disposition == .transient)
            #expect(error("57P01", "terminating").code.name == "postgres.connection_failed")
            #expect(
                error("55000", "can no longer get changes").code.name
                    == "postgres.slot_invalidated")
        }
    }
}
