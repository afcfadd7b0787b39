package import WeirCore
import WeirPostgresClient

// The followed tables as the catalogue has them.

extension PostgresSource: SourceTables {
    /// With the columns, types and keys that the stream will describe.
    package func tables() async throws(WeirError) -> [TableSchema] {
        let sql = try ordinaryConnection()
        try enterFlows(sql)
        let found = Dictionary(
            try catalogueTables(sql, publication: config.publication).map { ($0.name, $0) }
        ) { first, _ in first }
        let checksAllText = sql.parameter("server_encoding") == "SQL_ASCII"
        let remembered = remembered
        var tables: [TableSchema] = []
        for name in config.tables {
            guard let table = found[name], table.isPublished else {
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
        let version = sql.serverVersion
        let rows = try run(
            on: sql, to: "look at the tables", columns: CatalogueTable.columnCount
        ) {
            CatalogueTable.query(
                where: CatalogueSQL.isNamed($0), publication: publication, serverVersion: version)
        }
        let leaves = try run(on: sql, to: "look at the partitions") {
            LeafIdentity.query(where: CatalogueSQL.isNamed($0))
        }
        return CatalogueTable.tables(rows, leaves: leaves)
    }

    /// About a megabyte of names, types and keys, where tables are as wide as most are.
    static let tablesPerQuestion = 100

    /// Asks of all configured tables, in parts: no answer may have more than a few megabytes.
    func run(
        on sql: PostgresConnection, to work: String, columns: Int = 0,
        _ query: ([TableName]) -> String
    ) throws(WeirError) -> [TextRow] {
        var rows: [TextRow] = []
        var rest = config.tables[...]
        while !rest.isEmpty {
            let part = Array(rest.prefix(Self.tablesPerQuestion))
            rows += try run(query(part), on: sql, to: work, columns: columns)
            rest = rest.dropFirst(part.count)
        }
        return rows
    }
}
