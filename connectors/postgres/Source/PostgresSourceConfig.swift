package import WeirCore
package import WeirPostgresClient

/// The keys of a PostgreSQL source and its connection.
package struct PostgresSourceConfig: ConnectorConfig {
    package let connection: ConnectionString
    package let tables: [TableName]
    package let slot: String
    package let publication: String
    /// False: Weir creates and keeps the publication; true: the operator named one.
    package let isPublicationNamed: Bool
    package let origins: OriginFilter
    package let warnings: [String]
    private let connectionName: String
    /// See `StreamSilence`. Not configurable; tests shorten it.
    package var silenceLimit = Duration.seconds(10)

    package static let connectionFields = ConnectionString.fields

    package static let fields: [ConfigField] = [
        ConfigField(
            "tables", .list(of: .table),
            "The tables to read, as schema.table. A partitioned table stands for its partitions.",
            required: true, example: #"["public.products", "public.prices"]"#),
        ConfigField(
            "snapshot", .choice(["none"]),
            "What to do about rows that exist before streaming: none leaves them out.",
            default: #""none""#),
        ConfigField(
            "slot", .string,
            "The replication slot. Without it, weir_ and the pipeline's name with - as _.",
            example: #""weir_shop""#),
        ConfigField(
            "publication", .string,
            "A publication of yours to use, which Weir never alters. Without it, Weir creates one "
                + "named like the slot and keeps it in step with tables.",
            example: #""shop_changes""#),
        ConfigField(
            "origin", .choiceOrNames(["any", "none"]),
            "Whose transactions to read: any; none leaves out whatever replication wrote; a list "
                + "leaves out what was written under these replication origins, such as the one a "
                + "sink that writes to these tables names.",
            default: #""any""#, example: #"["weir_b_to_a"]"#),
    ]

    package init(_ scope: ConfigScope) throws(ConfigIssue) {
        guard let url = scope.connection?.secret("url") else {
            throw ConfigIssue(field: "connection", "the connection has no url")
        }
        connection = try ConnectionString(url.reveal())
        connectionName = scope.connectionName ?? ""
        tables = scope.values.tables("tables") ?? []
        if tables.isEmpty { throw ConfigIssue(field: "tables", "at least one table is needed") }
        var seen: Set<TableName> = []
        for (index, table) in tables.enumerated() where !seen.insert(table).inserted {
            throw ConfigIssue(field: "tables", index: index, "table \"\(table)\" is listed twice")
        }
        let derived = "weir_" + scope.pipeline.map { $0 == "-" ? "_" : $0 }
        slot = scope.values.string("slot") ?? derived
        // The server's own rule for slot names.
        guard (1...63).contains(slot.utf8.count),
            slot.utf8.allSatisfy({
                (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0)
                    || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
                    || $0 == UInt8(ascii: "_")
            })
        else {
            throw ConfigIssue(
                field: scope.values.string("slot") == nil ? nil : "slot",
                "slot name \"\(slot)\" must be 1 to 63 lower-case letters, digits and underscores")
        }
        isPublicationNamed = scope.values.string("publication") != nil
        publication = scope.values.string("publication") ?? slot
        guard (1...63).contains(publication.utf8.count) else {
            throw ConfigIssue(field: "publication", "a publication's name has 1 to 63 bytes")
        }
        origins = try Self.origins(scope.values)
        warnings = [connection.tlsWarning(connection: connectionName)].compactMap(\.self)
    }

    private static func origins(_ values: ConfigValues) throws(ConfigIssue) -> OriginFilter {
        guard let names = values.strings("origin") else {
            return values.string("origin") == "none" ? .everyOrigin : .nothing
        }
        for (index, name) in names.enumerated() {
            if names.firstIndex(of: name) != index {
                throw ConfigIssue(
                    field: "origin", index: index, "origin \"\(name)\" is listed twice")
            }
            if let fault = OriginName.fault(name) {
                throw ConfigIssue(field: "origin", index: index, fault)
            }
        }
        return .origins(names)
    }

    package var reach: TableReach? {
        TableReach(databases: connection.databases, .reads(leavingOut: origins))
    }

    package var claims: [String] { [claim(slot)] }

    package var uses: [String] { uses(slot: slot) + uses(publication: publication) }

    private func claim(_ slot: String) -> String { "slot \(slot) of connection \(connectionName)" }

    /// Slots are named for the whole server.
    private func uses(slot: String) -> [String] {
        connection.servers.sorted().map { "replication slot \(slot) of postgres \($0)" }
    }

    private func uses(publication: String) -> [String] {
        connection.databases.sorted().map { "publication \(publication) of \($0)" }
    }

    func isUsed(slot: String, by others: Set<String>) -> Bool {
        !others.isDisjoint(with: uses(slot: slot) + [claim(slot)])
    }

    func isUsed(publication: String, by others: Set<String>) -> Bool {
        !others.isDisjoint(with: uses(publication: publication))
    }

    package var place: String? { connection.place }

    package static var passingKeys: Set<String> { ["snapshot"] }

    package var removal: [String] {
        let drop = "SELECT pg_drop_replication_slot(\(PostgresConnection.literal(slot)));"
        if isPublicationNamed { return [drop] }
        let name = PostgresConnection.identifier(publication)
        return [drop, "DROP PUBLICATION IF EXISTS \(name);"]
    }
}
