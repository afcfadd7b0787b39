package import WeirCore
import WeirPostgresClient

// The followed tables as the catalogue has them.

extension PostgresSource: SourceTables {
    /// With the columns, types and keys that the stream will describe.
    package func tables() async throws(WeirError) -> [TableSchema] {
        let sql = try ordinaryConnection()
        try enterFlows(sql)
        let found = try catalogueTables(sql, publication: config.publication)
        let checksAllText = sql.parameter("server_encoding") == "SQL_ASCII"
        let remembered = remembered
        var tables: [TableSchema] = []
        for name in config.tables {
            guard let table = found.first(where: { $0.name == name }), table.isPublished else {
                continue
            }
            let relation = ScannedTable(table).relation(
                checksAllText: checksAllText, version: 0,
                memory: remembered?.table(numbered: table.oid))
            tables.append(relation.schema)
        }
        return tables
    }

    /// The configured tables that exist.
    ///
    /// - Parameter publication: asks for what it sends of them; nil for all columns.
    func catalogueTables(
        _ sql: PostgresConnection, publication: String? = nil
    ) throws(WeirError) -> [CatalogueTable] {
        let condition = CatalogueTable.isNamed(config.tables)
        let rows = try run(
            CatalogueTable.query(
                where: condition, publication: publication, serverVersion: sql.serverVersion),
            on: sql, to: "look at the tables", columns: CatalogueTable.columnCount)
        let leaves = try run(
            LeafIdentity.query(where: condition), on: sql,
            to: "look at the partitions")
        return CatalogueTable.tables(rows, leaves: leaves)
    }
}
