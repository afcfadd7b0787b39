import WeirTesting

/// One database of a second PostgreSQL server, where rows go.
struct TargetDatabase: Sendable {
    let server: PostgresServer
    let name: String

    /// Makes the database.
    init(_ name: String, on server: PostgresServer) throws {
        self.server = server
        self.name = name
        _ = try server.psql("CREATE DATABASE \(name)")
    }

    func psql(_ sql: String) throws -> String { try server.psql(sql, database: name) }

    func session() throws -> PostgresSession { try .open(server, database: name) }
}

extension PostgresServer {
    /// The number of rows of a table and a sum over all their columns: equal for equal rows in
    /// columns of the same order.
    func fingerprint(_ table: String, database: String = "postgres") throws -> String {
        try psql(
            "SELECT count(*), sum(hashtextextended(t::text, 0)) FROM \(table) AS t",
            database: database)
    }
}

/// Where a pipeline writes rows in a database.
struct TargetTable: Destination {
    let database: TargetDatabase
    /// The sink's own keys, as they stand in the configuration.
    let keys: String

    /// A table named as the source's.
    init(_ database: TargetDatabase, keys: String = #""write": "table""#) {
        self.database = database
        self.keys = keys
    }

    var connections: String {
        """
        , "target": { "type": "postgres", "url": "\(database.server.url(database: database.name))" }
        """
    }

    var sink: String { #"{ "connection": "target", \#(keys) }"# }
}

/// The rows of a table, asked for over one session.
struct TableRows: RowStore, ~Copyable {
    private var session: PostgresSession

    init(_ database: TargetDatabase, _ table: SourceTable) throws {
        var session = try database.session()
        // Planned once, while the table is empty.
        _ = try session.query("SET enable_seqscan = off")
        _ = try session.query("SET enable_bitmapscan = off")
        _ = try session.query("SET plan_cache_mode = force_generic_plan")
        _ = try session.query(
            "PREPARE present(bigint[]) AS SELECT id FROM \(table.name) WHERE id = ANY($1)")
        self.session = session
    }

    mutating func present(_ ids: [Int]) throws -> Set<Int> {
        let list = ids.map(String.init).joined(separator: ",")
        let rows = try session.query("EXECUTE present('{\(list)}')")
        return Set(rows.compactMap { $0[0].flatMap { Int($0) } })
    }
}
