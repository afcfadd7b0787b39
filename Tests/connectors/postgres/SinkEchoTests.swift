import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSink

/// A sink whose writes would come back as changes of the table it follows is refused, whatever the
/// two tables are called.
struct SinkEchoTests {
    private static let tables = """
        CREATE TABLE root (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
        CREATE TABLE middle PARTITION OF root FOR VALUES FROM (0) TO (100)
            PARTITION BY RANGE (id);
        CREATE TABLE leaf PARTITION OF middle FOR VALUES FROM (0) TO (50);
        CREATE TABLE beside PARTITION OF middle FOR VALUES FROM (50) TO (100);
        CREATE TABLE parent (id int PRIMARY KEY, v text);
        CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
        CREATE TABLE apart (id int PRIMARY KEY, v text);
        CREATE TABLE apart_2 (id int PRIMARY KEY, v text);
        CREATE SCHEMA s; CREATE VIEW s.parent AS SELECT * FROM parent;
        CREATE FUNCTION s.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE VIEW s.apart AS SELECT * FROM apart;
        CREATE TRIGGER t INSTEAD OF INSERT OR UPDATE ON s.apart
            FOR EACH ROW EXECUTE FUNCTION s.nothing();
        """

    private static func schema(_ name: String) -> TableSchema {
        TableSchema(
            version: 71, database: "shop", schema: "public", name: name,
            columns: [
                SinkCheckTests.column("id", "int4", "integer", .integer, isNotNull: true),
                SinkCheckTests.column("v", "text"),
            ], key: [0])
    }

    /// A sink of the very database that its source reads.
    private static func sink(
        _ database: TestDatabase, _ tables: [String], to target: String, name: String = "copy"
    ) throws -> PostgresSink {
        let system = try database.run("SELECT system_identifier FROM pg_control_system()")
        let url = database.server.url(database: database.name)
        return PostgresSink(
            try SinkHarness.config(
                url: url, ["table": .string(target)], tables: tables.map { "public.\($0)" }),
            .test(
                name,
                source: { SourceIdentity([("system", system), ("database", database.name)]) }))
    }

    @Test func aTargetThatSharesRowsWithItsSourceIsRefused() async throws {
        let database = try await TestDatabase(Self.tables)
        let cases: [(tables: [String], target: String, words: String?)] = [
            (["root"], "public.leaf", "holds rows of \"public.root\""),
            (["root"], "middle", "holds rows of \"public.root\""),
            (["leaf"], "root", "holds rows of \"public.leaf\""),
            (["leaf"], "middle", "holds rows of \"public.leaf\""),
            (["parent"], "child", "holds rows of \"public.parent\""),
            (["child"], "parent", "holds rows of \"public.child\""),
            (["apart"], "apart", "the very table it follows"),
            (["parent"], "s.{table}", "is a view"),
            (["apart"], "s.apart", "is a view"),
            // Of its own: nothing comes back.
            (["leaf"], "beside", nil), (["parent"], "apart", nil),
            // A chain ends.
            (["apart", "apart_2"], "{table}_2", nil),
        ]
        for (tables, target, words) in cases {
            let sink = try Self.sink(database, tables, to: target)
            _ = try await sink.open(at: nil)
            let found = try await sink.check(tables.map(Self.schema))
            let finding = found.first { $0.severity == .blocking }
            #expect((finding == nil) == (words == nil), "\(tables) to \(target): \(found)")
            if let words {
                #expect(finding?.code == .targetUnfit)
                #expect(finding?.message.contains(words) == true, "\(found)")
            }
            await sink.close()
        }
    }

    @Test func aSourceThatFollowsThePositionOfItsSinkIsRefused() async throws {
        let database = try await TestDatabase(Self.tables)
        let sink = try Self.sink(database, ["weir_position", "apart"], to: "copy.{table}")
        _ = try await sink.open(at: nil)
        let found = try await sink.check(["weir_position", "apart"].map(Self.schema))
        #expect(found.map(\.severity) == [.blocking] && found[0].subject == "public.weir_position")
        #expect(found[0].message.contains("an endless echo"))
        await sink.close()
    }

    /// Two pipelines under names that no look at the configuration connects: one writes a partition
    /// of what the other reads.
    @Test func aLoopOverTwoPipelinesIsRefusedByTheOneThatStartsLast() async throws {
        let (north, south) = (
            try await TestDatabase(Self.tables), try await TestDatabase(Self.tables)
        )
        let (forth, back) = ("\(north.name)_forth", "\(north.name)_back")
        // As the sources do when they are open.
        func read(_ database: TestDatabase, _ pipeline: String) async throws {
            let connection = try database.connect()
            let instance = try ServerInstance(connection)
            let root = TableName(schema: "public", name: "root")
            let places = try connection.query(TableFlows.familiesQuery([root])).compactMap {
                $0[2].flatMap { UInt32($0) }.map { TableFlows.Place(instance, $0) }
            }
            #expect(places.count == 4)
            TableFlows.shared.enter(reader: pipeline, [root: Set(places)], leavingOut: .nothing)
        }
        func findings(
            _ database: TestDatabase, _ pipeline: String, to target: String
        ) async throws -> [Finding] {
            let sink = PostgresSink(
                try SinkHarness.config(
                    url: database.server.url(database: database.name),
                    ["table": .string(target)], tables: ["public.root"]),
                .test("copy", pipeline: pipeline))
            _ = try await sink.open(at: nil)
            let found = try await sink.check([Self.schema("root")])
            await sink.close()
            return found.filter { $0.severity == .blocking }
        }
        try await read(north, forth)
        #expect(try await findings(south, forth, to: "leaf").isEmpty)
        try await read(south, back)
        // Not what is read elsewhere and goes no further.
        #expect(try await findings(north, back, to: "apart").isEmpty)
        let found = try await findings(north, back, to: "middle")
        #expect(found.count == 2, "each of the two steps: \(found)")
        #expect(
            found.contains {
                $0.message == "what sink \"copy\" of pipeline \"\(forth)\" writes to "
                    + "\"public.leaf\" is read by pipeline \"\(back)\" as \"public.root\" and comes "
                    + "back: an endless echo"
                    && $0.hint == "Give the source of \"\(back)\" \"origin\": "
                        + "[\"weir_\(forth)_copy\"], and sink \"copy\" of pipeline \"\(forth)\" "
                        + "\"origin\": \"weir_\(forth)_copy\"."
            }, "\(found)")
        // The one that was refused writes nothing, so the other may start.
        #expect(try await findings(south, forth, to: "leaf").isEmpty)
    }

    /// Rings are found whatever their length; every step of one must be cut.
    @Test func aRingIsNoneOnceEverySourceLeavesOutWhatItWouldReadAgain() throws {
        let table = TableName(schema: "public", name: "t")
        let names = ["a", "b", "c"]
        let places = try names.map { name in
            TableFlows.Place(try #require(ServerInstance(parsing: "1 \(name) 5 primary")), 7)
        }
        func flows(cutting cut: Set<Int>, closed: Bool = true) -> TableFlows {
            let flows = TableFlows()
            for (index, name) in names.enumerated() {
                let before = (index + 2) % 3
                flows.enter(
                    reader: name, [table: [places[index]]],
                    leavingOut: .origins(cut.contains(before) ? ["o\(before)"] : []))
                if index == 2, !closed { continue }
                flows.enter(
                    writer: "s", of: name, [table: (table, places[(index + 1) % 3])],
                    origin: "o\(index)")
            }
            return flows
        }
        for name in names {
            #expect(flows(cutting: []).echoes(of: "s", in: name).count == 3)
            #expect(flows(cutting: [0, 1]).echoes(of: "s", in: name).map(\.reader) == ["a"])
            #expect(flows(cutting: [0, 1, 2]).echoes(of: "s", in: name).isEmpty)
            #expect(flows(cutting: [], closed: false).echoes(of: "s", in: name).isEmpty)
        }
        let left = flows(cutting: [])
        left.leave(writer: "s", of: "b")
        #expect(left.echoes(of: "s", in: "a").isEmpty)
    }

    /// Found again when a table of another shape comes, as after ATTACH PARTITION.
    @Test func aTargetThatBecomesAPartOfItsSourceIsRefusedWhileItRuns() async throws {
        let database = try await TestDatabase(Self.tables)
        let sink = try Self.sink(database, ["root"], to: "apart")
        _ = try await sink.open(at: nil)
        #expect(try await sink.check([Self.schema("root")]).allSatisfy { $0.severity == .warning })
        try await sink.write([.insert([1, "v"])], of: Self.schema("root"), commit: 16)
        try database.run(
            "TRUNCATE apart; ALTER TABLE root ATTACH PARTITION apart FOR VALUES FROM (100) TO (200)"
        )
        let other = TableSchema(
            version: 72, database: "shop", schema: "public", name: "root",
            columns: Self.schema("root").columns, key: [0])
        let error = await #expect(throws: WeirError.self) {
            try await sink.write([.insert([101, "v"])], of: other, commit: 32)
        }
        #expect(error?.code == .targetUnfit && error?.disposition == .blocked)
        #expect(error?.message.contains("holds rows of \"public.root\"") == true)
        await sink.close()
    }
}
