import WeirCore
import WeirPostgresClient

/// What a role may do with a target, and what it must be granted. Pure but for the queries' text.
struct TargetRights: Sendable, Equatable {
    let mayUseSchema: Bool
    let mayDelete: Bool
    let mayTruncate: Bool
    /// It may alter the table.
    let isOwner: Bool
    /// Row-level security stands between the role and the rows.
    let hidesRows: Bool
    /// By the column's name: INSERT, UPDATE, SELECT.
    let columns: [String: Column]

    struct Column: Sendable, Equatable {
        let mayInsert: Bool
        let mayUpdate: Bool
        let maySelect: Bool
        /// The schema of its type, if the role may not look into it.
        let closedSchema: String?
    }

    static func query(_ oid: String) -> String {
        """
        SELECT pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE'), \
        pg_catalog.has_table_privilege(c.oid, 'DELETE'), \
        pg_catalog.has_table_privilege(c.oid, 'TRUNCATE'), \
        pg_catalog.pg_has_role(c.relowner, 'USAGE'), pg_catalog.row_security_active(c.oid) \
        FROM pg_catalog.pg_class c WHERE c.oid = \(oid)
        """
    }

    static func columnsQuery(_ oid: String) -> String {
        """
        SELECT a.attname, pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'INSERT'), \
        pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'UPDATE'), \
        pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT'), n.nspname, \
        pg_catalog.has_schema_privilege(n.oid, 'USAGE') FROM pg_catalog.pg_attribute a \
        JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
        JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE a.attrelid = \(oid) AND a.attnum > 0 \
        AND NOT a.attisdropped
        """
    }

    init(_ row: TextRow, columns rows: [TextRow]) {
        mayUseSchema = row[0] == "t"
        mayDelete = row[1] == "t"
        mayTruncate = row[2] == "t"
        isOwner = row[3] == "t"
        hidesRows = row[4] == "t"
        var columns: [String: Column] = [:]
        for row in rows where row.count == 6 {
            guard let name = row[0] else { continue }
            columns[name] = Column(
                mayInsert: row[1] == "t", mayUpdate: row[2] == "t", maySelect: row[3] == "t",
                closedSchema: row[5] == "t" ? nil : row[4])
        }
        self.columns = columns
    }

    /// What must be run, by somebody who may, before a role can do all that is asked for.
    ///
    /// - Parameters:
    ///   - takes: whether each operation is written, by its raw value.
    ///   - written: the columns that are written, `read` those that rows are found by.
    func grants(
        _ table: TableName, to role: String, takes taken: [Bool], written: [String], read: [String],
        isKeyed: Bool, alters: Bool
    ) -> [String] {
        func takes(_ operation: Operation) -> Bool { taken[Int(operation.rawValue)] }
        var grants: [String] = []
        var closed = Set(written.compactMap { columns[$0]?.closedSchema })
        if !mayUseSchema { closed.insert(table.schema) }
        for schema in closed.sorted() {
            let name = PostgresConnection.identifier(schema)
            grants.append("GRANT USAGE ON SCHEMA \(name) TO \(role);")
        }
        if alters, !isOwner {
            // An owner has all the others.
            return grants + ["ALTER TABLE \(table.sql) OWNER TO \(role);"]
        }
        var rights: [String] = []
        let writes = takes(.insert) || takes(.update) || takes(.read)
        // Rows without a key are only ever put in and taken out.
        let finds = isKeyed || takes(.update) || takes(.delete)
        func may(_ names: [String], _ right: (Column) -> Bool) -> Bool {
            names.allSatisfy { columns[$0].map(right) ?? true }
        }
        if finds, !may(read, { $0.maySelect }) { rights.append("SELECT") }
        if writes, !may(written, { $0.mayInsert }) { rights.append("INSERT") }
        if writes, isKeyed, !may(written, { $0.mayUpdate }) { rights.append("UPDATE") }
        if takes(.delete) || takes(.update) && !isKeyed, !mayDelete { rights.append("DELETE") }
        if takes(.truncate), !mayTruncate { rights.append("TRUNCATE") }
        if !rights.isEmpty {
            grants.append("GRANT \(rights.joined(separator: ", ")) ON \(table.sql) TO \(role);")
        }
        return grants
    }

    /// Updates alone are written, and the role may not take a row out: it needs that only where
    /// values wander from one row to another, or a row gets another key.
    func cannotReplace(_ table: TableName, role: String, takes taken: [Bool]) -> Finding? {
        func takes(_ operation: Operation) -> Bool { taken[Int(operation.rawValue)] }
        guard takes(.update), !takes(.delete), !mayDelete else { return nil }
        return Finding(
            .permission, .warning, "\(table)",
            "the role of the sink may not delete from \"\(table)\": an update that gives a row "
                + "another key, or the value that another row has, may need it",
            hint: "GRANT DELETE ON \(table.sql) TO \(role);")
    }
}

extension TargetCatalogue {
    func rights(_ table: TargetTable) throws(TargetFailure) -> TargetRights {
        TargetRights(
            try rows(TargetRights.query, table.oid).first ?? [],
            columns: try rows(TargetRights.columnsQuery, table.oid))
    }

    /// The session's role as SQL, and its database.
    func session() throws(TargetFailure) -> (role: String, database: String) {
        let row = try queryOnce("SELECT current_user, pg_catalog.current_database()").first
        return (
            PostgresConnection.identifier(row?[0] ?? ""),
            PostgresConnection.identifier(row?[1] ?? "")
        )
    }

    /// What the role must be granted before it can make a table in a schema.
    func grantsToMake(_ table: TableName) throws(TargetFailure) -> [String] {
        let schema = PostgresConnection.literal(table.schema)
        let found = try queryOnce(
            "SELECT pg_catalog.has_schema_privilege(oid, 'USAGE'), "
                + "pg_catalog.has_schema_privilege(oid, 'CREATE') "
                + "FROM pg_catalog.pg_namespace WHERE nspname = \(schema)"
        ).first
        let session = try session()
        guard let found else {
            let mayCreate = try queryOnce(
                "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')"
            ).first
            return mayCreate?[0] == "t"
                ? [] : ["GRANT CREATE ON DATABASE \(session.database) TO \(session.role);"]
        }
        let lacking = zip(["USAGE", "CREATE"], found).filter { $1 != "t" }.map(\.0)
        if lacking.isEmpty { return [] }
        let name = PostgresConnection.identifier(table.schema)
        return ["GRANT \(lacking.joined(separator: ", ")) ON SCHEMA \(name) TO \(session.role);"]
    }

    /// What the role must be granted to copy many rows at once.
    func grantsToStage() throws(TargetFailure) -> [String] {
        let may = try query(
            "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY')"
        ).first
        if may?[0] == "t" { return [] }
        let session = try session()
        return ["GRANT TEMPORARY ON DATABASE \(session.database) TO \(session.role);"]
    }

    /// What the role must be granted to keep its position.
    func grantsOfPosition(_ table: TableName) throws(TargetFailure) -> [String] {
        let found = try query(
            "SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE'), "
                + "pg_catalog.has_table_privilege(c.oid, 'SELECT'), "
                + "pg_catalog.has_table_privilege(c.oid, 'INSERT'), "
                + "pg_catalog.has_table_privilege(c.oid, 'UPDATE'), "
                + "pg_catalog.has_table_privilege(c.oid, 'DELETE') "
                + "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
                + "ON n.oid = c.relnamespace "
                + "WHERE n.nspname = \(PostgresConnection.literal(table.schema)) "
                + "AND c.relname = \(PostgresConnection.literal(table.name))"
        ).first
        guard let found else { return try grantsToMake(table) }
        let session = try session()
        var grants: [String] = []
        if found[0] != "t" {
            let name = PostgresConnection.identifier(table.schema)
            grants.append("GRANT USAGE ON SCHEMA \(name) TO \(session.role);")
        }
        let lacking = zip(["SELECT", "INSERT", "UPDATE", "DELETE"], found.dropFirst())
            .filter { $1 != "t" }.map(\.0)
        if !lacking.isEmpty {
            grants.append(
                "GRANT \(lacking.joined(separator: ", ")) ON \(table.sql) TO \(session.role);")
        }
        return grants
    }
}
