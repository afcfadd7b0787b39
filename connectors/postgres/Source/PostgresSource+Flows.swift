import WeirCore
import WeirPostgresClient

extension PostgresSource {
    /// Sinks of this process that write to the followed tables learn that what they write is read.
    func enterFlows(_ sql: PostgresConnection) throws(WeirError) {
        if config.tables.isEmpty { return }
        let instance = try instance(sql)
        let rows = try run(
            TableFlows.familiesQuery(config.tables), on: sql, to: "look at the tables' partitions")
        var families: [TableName: Set<TableFlows.Place>] = [:]
        for row in rows {
            guard let schema = row[0], let name = row[1], let oid = row[2].flatMap({ UInt32($0) })
            else { continue }
            families[TableName(schema: schema, name: name), default: []]
                .insert(TableFlows.Place(instance, oid))
        }
        TableFlows.shared.enter(
            reader: context.pipeline, families, leavingOut: config.origins)
    }
}
