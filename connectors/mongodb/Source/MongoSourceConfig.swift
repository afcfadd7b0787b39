package import WeirCore
package import WeirMongoDBClient

/// What a change stream covers.
package enum Scope: Sendable, Equatable {
    /// Every database but the server's own.
    case deployment
    /// Every collection of one database.
    case database(String)
    /// These, by database. The stream covers the one there is, the one database they are in, or the
    /// deployment.
    case collections([TableName])

    /// The database whose stream is opened; nil for the whole deployment's.
    var database: String? {
        switch self {
        case .deployment: return nil
        case .database(let name): return name
        case .collections(let names):
            let databases = Set(names.map(\.schema))
            return databases.count == 1 ? databases.first : nil
        }
    }

    /// The collection whose stream is opened, where there is only one. The server then needs no
    /// condition for it, which would cost it time for every event.
    var collection: String? {
        if case .collections(let names) = self, names.count == 1 { names[0].name } else { nil }
    }

    /// What the stream covers: `cms.articles`, `cms`, or `*` for the deployment, which is no
    /// database's name. Another stream may not show the event of this one's token (CORRECTNESS 62).
    var name: String {
        guard let database else { return "*" }
        return collection.map { "\(database).\($0)" } ?? database
    }

    func covers(database: String, collection: String) -> Bool {
        switch self {
        case .deployment: true
        case .database(let name): name == database
        case .collections(let names):
            names.contains { $0.schema == database && $0.name == collection }
        }
    }
}

/// The keys of a MongoDB source and its connection.
package struct MongoSourceConfig: ConnectorConfig {
    /// What happens when a collection is renamed to the name of one that is followed: its documents
    /// come without events of their own.
    package enum RenamePolicy: String, CaseIterable, Sendable {
        case stop, `continue`
    }

    package let url: MongoURL
    package let scope: Scope
    package let onRename: RenamePolicy
    /// Whether documents as they were before a change are asked for, where collections keep them.
    package let wantsBefore: Bool
    package let warnings: [String]

    package var tables: [TableName]? {
        if case .collections(let names) = scope { names } else { nil }
    }

    package static let connectionFields = MongoURL.fields

    package static let fields: [ConfigField] = [
        ConfigField(
            "collections", .list(of: .string),
            "The collections to follow, as database.collection. Without it, all of the database, or "
                + "of the whole deployment.",
            example: #"["cms.articles", "cms.authors"]"#),
        ConfigField(
            "database", .string,
            "The database whose collections are followed, new ones too. Instead of collections.",
            example: #""cms""#),
        ConfigField(
            "snapshot", .choice(["none"]),
            "What to do about documents that exist before streaming: none leaves them out.",
            default: #""none""#),
        ConfigField(
            "before", .choice(["when_available", "never"]),
            "Whether to ask for documents as they were before a change, which collections with "
                + "changeStreamPreAndPostImages keep.",
            default: #""when_available""#),
        ConfigField(
            "on_rename", .choice(RenamePolicy.allCases.map(\.rawValue)),
            "What happens when another collection is renamed to one that is followed ($out does "
                + "it): stop waits for an operator, continue goes on and says that its documents "
                + "were not delivered.",
            default: #""stop""#),
    ]

    package init(_ scope: ConfigScope) throws(ConfigIssue) {
        guard let url = scope.connection?.secret("url") else {
            throw ConfigIssue(field: "connection", "the connection has no url")
        }
        self.url = try MongoURL(url.reveal())
        if self.url.isPlainAbroad, scope.connection?.boolean("allow_plaintext") != true {
            throw ConfigIssue(field: "url", MongoURL.refusalOfPlaintext)
        }
        let given = scope.values
        let database = given.string("database")
        if let names = given.strings("collections") {
            if database != nil {
                throw ConfigIssue(
                    field: "database", "\"database\" and \"collections\" exclude one another")
            }
            self.scope = .collections(try Self.collections(names))
        } else if let database {
            guard Self.isDatabase(database) else {
                throw ConfigIssue(field: "database", "\"\(database)\" is no name of a database")
            }
            self.scope = .database(database)
        } else {
            self.scope = .deployment
        }
        onRename = RenamePolicy(rawValue: given.string("on_rename") ?? "") ?? .stop
        wantsBefore = given.string("before") != "never"
        let connection = scope.connectionName ?? ""
        warnings = [
            self.url.tlsWarning(connection: connection),
            self.url.optionsWarning(connection: connection),
        ].compactMap(\.self)
    }

    package var place: String? { url.place }

    package static var passingKeys: Set<String> { ["snapshot", "before", "on_rename"] }

    /// A database's name has no dot, so the first one ends it; names with quotes are taken as those
    /// of tables are.
    private static func collections(_ names: [String]) throws(ConfigIssue) -> [TableName] {
        if names.isEmpty {
            throw ConfigIssue(field: "collections", "at least one collection is needed")
        }
        var collections: [TableName] = []
        var seen: Set<TableName> = []
        for (index, name) in names.enumerated() {
            let collection: TableName?
            if name.contains("\"") {
                collection = TableName(parsing: name)
            } else {
                let parts = name.split(
                    separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
                collection =
                    parts.count == 2 && !parts[1].isEmpty
                    ? TableName(schema: String(parts[0]), name: String(parts[1])) : nil
            }
            guard let collection, isDatabase(collection.schema), !collection.name.contains("\0")
            else {
                throw ConfigIssue(
                    field: "collections", index: index,
                    "\"\(name)\" is no collection; write database.collection")
            }
            guard seen.insert(collection).inserted else {
                throw ConfigIssue(
                    field: "collections", index: index, "collection \"\(name)\" is listed twice")
            }
            collections.append(collection)
        }
        return collections
    }

    /// The server's own rule, on every platform.
    private static func isDatabase(_ name: String) -> Bool {
        (1...63).contains(name.utf8.count) && !["admin", "local", "config"].contains(name)
            && !name.contains { "/\\. \"$*<>:|?\0".contains($0) }
    }
}
