import Testing
import WeirCore
import WeirPostgresSource
import WeirTesting

extension PostgresSourceTests {
    /// The followed tables as sinks are checked against them.
    @Suite struct FollowedTables {
        private static let tables = """
            CREATE SCHEMA app; CREATE DOMAIN app.email AS varchar(80);
            CREATE TYPE app.mood AS ENUM ('sad');
            CREATE TABLE t (b numeric(10,2) NOT NULL, a int, mail app.email, m app.mood[],
                g int GENERATED ALWAYS AS (a * 2) STORED, gone int, PRIMARY KEY (a, b));
            ALTER TABLE t DROP COLUMN gone;
            CREATE TABLE p (id int, at date, note varchar(5), PRIMARY KEY (id, at))
                PARTITION BY RANGE (at);
            CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
            CREATE TABLE bare (v text); ALTER TABLE bare REPLICA IDENTITY FULL
            """

        /// But for the versions, which mean nothing here.
        private static func expectEqual(
            _ left: TableSchema, _ right: TableSchema,
            sourceLocation: SourceLocation = #_sourceLocation
        ) {
            #expect(left.schema == right.schema, sourceLocation: sourceLocation)
            #expect(left.name == right.name, sourceLocation: sourceLocation)
            #expect(left.database == right.database, sourceLocation: sourceLocation)
            #expect(left.columns == right.columns, sourceLocation: sourceLocation)
            #expect(left.key == right.key, sourceLocation: sourceLocation)
            #expect(left.isKeyUnique == right.isKeyUnique, sourceLocation: sourceLocation)
        }

        @Test(
            "CORRECTNESS 24, 25: sinks are shown the tables as the stream will describe them",
            arguments: PostgresVersion.allCases)
        func asTheStreamDescribesThem(version: PostgresVersion) async throws {
            let database = try await TestDatabase(Self.tables, version: version)
            let source = try await SourceHarness.open(database, tables: ["t", "p", "bare"])
            let tables = try await source.source.tables()
            #expect(tables.map(\.name) == ["t", "p", "bare"])
            try database.run(
                """
                INSERT INTO t VALUES (1, 2, 'a@b', '{sad}');
                INSERT INTO p VALUES (1, '2026-02-02', 'x'); INSERT INTO bare VALUES ('y')
                """)
            var described: [TableSchema] = []
            let marker = try await source.mark()
            try await eventually("the rows are read") {
                let batch = try await source.readBatch()
                described += batch.events.map { batch.tables[Int($0.table)] }
                return source.hasReached(marker)
            }
            try #require(described.count == 3)
            for (table, stream) in zip(tables, described) { Self.expectEqual(table, stream) }

            #expect(tables[0].columns.map(\.name) == ["b", "a", "mail", "m"])
            #expect(
                tables[0].columns.map(\.declaredType)
                    == ["numeric(10,2)", "integer", "app.email", "app.mood[]"])
            #expect(tables[1].columns.map(\.isPartitionKey) == [false, true, false])
            #expect(tables[0].columns.map(\.isNotNull) == [true, true, false, false])
            #expect(tables[0].sendsWholeOldRows == false && described[0].sendsWholeOldRows == false)
            try database.run("ALTER TABLE t REPLICA IDENTITY FULL")
            #expect(try await source.source.tables()[0].sendsWholeOldRows == true)
            #expect(tables[0].key == [1, 0])
            #expect(tables[1].columns.last?.declaredType == "character varying(5)")
            #expect(tables[2].key == [0] && !tables[2].isKeyUnique)
        }

        @Test(
            "CORRECTNESS 77: of a publication with a column list only its columns are there",
            arguments: [PostgresVersion.debian15, .wheel18])
        func columnList(version: PostgresVersion) async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (id int PRIMARY KEY, v text, w text);
                CREATE PUBLICATION mine FOR TABLE t (id, w) WITH (publish_via_partition_root)
                """, version: version)
            let source = try await SourceHarness.open(
                database, tables: ["t"], config: ["publication": .string("mine")])
            #expect(try await source.source.tables().first?.columns.map(\.name) == ["id", "w"])
        }

        @Test func aTableWithoutColumnsHasEmptyRows() async throws {
            let database = try await TestDatabase(
                "CREATE TABLE t (); ALTER TABLE t REPLICA IDENTITY FULL")
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run("INSERT INTO t DEFAULT VALUES; DELETE FROM t")
            let lines = try await source.drain()
            #expect(lines.map(\.op) == ["insert", "delete"])
            #expect(lines.first?.after == [:])
            #expect(try await source.source.tables().first?.columns.isEmpty == true)
        }

        @Test("CORRECTNESS 23: what a column was declared as is not said of one that is other now")
        func declaredOfAnotherTime() async throws {
            let database = try await TestDatabase(
                "CREATE TABLE t (id int PRIMARY KEY, v varchar(5), w varchar(5))")
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run(
                """
                INSERT INTO t VALUES (1, 'a', 'b'); ALTER TABLE t ALTER v TYPE varchar(9);
                ALTER TABLE t ALTER w SET NOT NULL
                """)
            _ = try await source.read(until: "a row") { $1.count == 1 }
            let columns = try #require(source.batch.tables.first).columns
            #expect(
                columns.map(\.declaredType) == ["integer", nil, "character varying(5)"])
            #expect(columns.map(\.type.name) == ["int4", "varchar", "varchar"])
        }
    }
}
