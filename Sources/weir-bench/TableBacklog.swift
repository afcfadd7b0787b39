import Glibc
import WeirTesting

/// A backlog that goes to a table of a second PostgreSQL server, and beside Weir by a native
/// subscription to an equal table of the same server.
///
/// A turn ends when the row with the last id is as it is in the source. The subscription's commits
/// are visible then, and on disk a little later; Weir's are on disk.
struct TableBacklog: BacklogDestination {
    let yardstick = Yardstick(program: "subscription", ratioMin: 0.8)

    private let table: SourceTable
    private let server: PostgresServer
    private let pid: Int32
    private let weir: TargetDatabase
    private let native: TargetDatabase

    /// Each turn begins with the rows that the source has now.
    init(_ scene: Backlog.Scene) async throws {
        table = scene.table
        server = try await PostgresServer.quiet(settings: NativeSubscription.settings)
        guard let pid = server.pid else { throw TestingError("PostgreSQL ended at once") }
        self.pid = pid
        weir = try TargetDatabase("weir", on: server)
        native = try TargetDatabase("native", on: server)
        let file = "\(scene.source.directory)/rows"
        _ = try scene.source.psql("COPY \(table.name) TO '\(file)'")
        for database in [weir, native] {
            _ = try database.psql(
                """
                CREATE SCHEMA before;
                SET search_path = before;
                \(table.definition)
                COPY \(table.name) FROM '\(file)';
                """)
        }
    }

    func place(_ round: Int) -> any Destination { TargetTable(weir) }

    func prepare(_ round: Int, from source: PostgresServer) throws {
        try subscription(round, source).makeSlot()
    }

    func limit(_ round: Int, _ changes: Int, from source: PostgresServer) throws -> Drain? {
        try fill(native)
        let subscription = subscription(round, source)
        try subscription.create()
        let last = "SELECT t::text FROM \(table.name) AS t WHERE id = \(changes)"
        let wanted = try source.psql(last)
        var session = try native.session()
        let drain = try Drain(yardstick.program, changes, server: pid) {
            let start = ContinuousClock.now
            _ = try session.query(subscription.enable)
            while try session.query(last).first?.first.flatMap(\.self) ?? "" != wanted {
                guard ContinuousClock.now - start < .seconds(300) else {
                    throw TestingError("the subscription does not arrive")
                }
                usleep(2_000)
            }
            return (ContinuousClock.now - start).inSeconds
        }
        try subscription.drop()
        try checkAndRemove(native, source)
        return drain
    }

    func drain(
        _ round: Int, _ changes: Int, from source: PostgresServer, run: () throws -> MeasuredRun
    ) throws -> Drain {
        try fill(weir)
        let drain = try Drain("weir", changes, server: pid, run: run)
        try checkAndRemove(weir, source)
        return drain
    }

    private func subscription(_ round: Int, _ source: PostgresServer) -> NativeSubscription {
        NativeSubscription(name: "native_\(round)", source: source, database: native)
    }

    /// Makes the table as it was before the load.
    private func fill(_ database: TargetDatabase) throws {
        let name = table.name
        _ = try database.psql(
            """
            CREATE TABLE public.\(name) (LIKE before.\(name) INCLUDING ALL);
            INSERT INTO public.\(name) SELECT * FROM before.\(name);
            VACUUM ANALYZE public.\(name);
            CHECKPOINT;
            """)
    }

    private func checkAndRemove(_ database: TargetDatabase, _ source: PostgresServer) throws {
        let expected = try source.fingerprint(table.name)
        let found = try server.fingerprint(table.name, database: database.name)
        guard found == expected else {
            throw TestingError(
                "the table in \"\(database.name)\" is \(found) instead of \(expected)")
        }
        _ = try database.psql("DROP TABLE public.\(table.name)")
    }
}
