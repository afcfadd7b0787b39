import GRDB
package import WeirCore

/// What the state remembers of one source or sink beside its position: how it was configured when
/// it last ran, and where it began. One row per fact, readable with `sqlite3`. No start depends on
/// them: what is missing is not compared.
package struct ConfiguredComponent: Sendable, Equatable {
    package let component: String
    package var settings: ConnectorSettings
    /// Where a sink began, and when.
    package var began: Beginning?
    /// Of which type the sink's mark is: that of its settings, until those of a sink of another
    /// type are taken up.
    private(set) var markType: String

    package struct Beginning: Sendable, Equatable {
        /// Its text; until 2026-12-01 as the source shows it.
        package let position: String
        package let micros: Int64
    }

    private enum Kind: String {
        case fact, key, table, claim, use, removal, began
    }

    private var facts: [(kind: Kind, name: String, value: String)] {
        var facts: [(Kind, String, String)] = [(.fact, "type", settings.type)]
        if let connection = settings.connection { facts.append((.fact, "connection", connection)) }
        if let place = settings.place { facts.append((.fact, "place", place)) }
        facts += settings.entries.map { (.key, $0.key, $0.json) }
        facts += settings.tables.map { (.table, $0, "") }
        facts += settings.claims.map { (.claim, $0, "") }
        facts += settings.uses.map { (.use, $0, "") }
        facts += settings.removal.enumerated().map { (.removal, "\($0.offset)", $0.element) }
        return facts
    }

    /// Replaces what is stored of the component; where it began stays.
    func save(_ database: Database, _ pipeline: String) throws {
        try database.execute(
            sql: "DELETE FROM configured WHERE pipeline = ? AND component = ? AND kind <> 'began'",
            arguments: [pipeline, component])
        for fact in facts {
            try Self.insert(database, pipeline, component, fact.kind, fact.name, fact.value)
        }
    }

    static func saveBeginning(
        _ database: Database, _ pipeline: String, _ sink: String, _ began: Beginning
    ) throws {
        try insert(database, pipeline, sink, .began, "position", began.position)
        try insert(database, pipeline, sink, .began, "micros", "\(began.micros)")
    }

    /// Holds until settings of that type are saved.
    static func saveMarkType(
        _ database: Database, _ pipeline: String, _ sink: String, _ type: String
    ) throws {
        try insert(database, pipeline, sink, .fact, markTypeName, type)
    }

    private static let markTypeName = "mark"

    private static func insert(
        _ database: Database, _ pipeline: String, _ component: String, _ kind: Kind,
        _ name: String, _ value: String
    ) throws {
        try database.execute(
            sql: """
                INSERT OR REPLACE INTO configured (pipeline, component, kind, name, value)
                VALUES (?, ?, ?, ?, ?)
                """,
            arguments: [pipeline, component, kind.rawValue, name, value])
    }

    static func forget(_ database: Database, _ pipeline: String, _ component: String) throws {
        try database.execute(
            sql: "DELETE FROM configured WHERE pipeline = ? AND component = ?",
            arguments: [pipeline, component])
    }

    /// By component; empty for a pipeline that last ran under a Weir that did not remember this.
    static func all(
        _ database: Database, of pipeline: String
    ) throws -> [String: ConfiguredComponent] {
        // `status` may read the store of a Weir that has not been started since an upgrade.
        guard try database.tableExists("configured") else { return [:] }
        let rows = try Row.fetchAll(
            database,
            sql: """
                SELECT component, kind, name, value FROM configured WHERE pipeline = ?
                ORDER BY component, kind, name
                """, arguments: [pipeline])
        var components: [String: [(kind: String, name: String, value: String)]] = [:]
        for row in rows { components[row[0], default: []].append((row[1], row[2], row[3])) }
        return components.reduce(into: [:]) { all, component in
            all[component.key] = ConfiguredComponent(component.key, component.value)
        }
    }

    private init(_ component: String, _ rows: [(kind: String, name: String, value: String)]) {
        func all(_ kind: Kind) -> [(kind: String, name: String, value: String)] {
            rows.filter { $0.kind == kind.rawValue }
        }
        func one(_ kind: Kind, _ name: String) -> String? {
            all(kind).first { $0.name == name }?.value
        }
        self.component = component
        settings = ConnectorSettings(
            type: one(.fact, "type") ?? "", connection: one(.fact, "connection"),
            place: one(.fact, "place"),
            entries: all(.key).map { ConnectorSettings.Entry($0.name, $0.value) },
            tables: all(.table).map(\.name), claims: all(.claim).map(\.name),
            uses: all(.use).map(\.name), removal: all(.removal).map(\.value))
        markType = one(.fact, Self.markTypeName) ?? settings.type
        began = one(.began, "position").map {
            Beginning(position: $0, micros: one(.began, "micros").flatMap { Int64($0) } ?? 0)
        }
    }

    package init(component: String, settings: ConnectorSettings) {
        self.component = component
        self.settings = settings
        markType = settings.type
    }
}

extension StateStore {
    /// How a pipeline's parts were configured when they last ran.
    package func configured(
        of pipeline: String
    ) throws(WeirError) -> [String: ConfiguredComponent] {
        try read { try ConfiguredComponent.all($0, of: pipeline) }
    }

    /// Every pipeline there is a position of.
    package func pipelineNames() throws(WeirError) -> [String] {
        try read { try String.fetchAll($0, sql: "SELECT pipeline FROM pipeline ORDER BY pipeline") }
    }

    /// Takes up a component's configuration: what its change leaves behind is declared in the same
    /// transaction, so that it is said once and never lost.
    ///
    /// - Returns: the gaps that are new.
    func adopt(
        _ component: ConfiguredComponent, of pipeline: String, gaps: [DeclaredGap], atMicros: Int64
    ) throws(WeirError) -> [GapRow] {
        try write { database in
            let new = try gaps.compactMap {
                try GapRow.declare(
                    database, pipeline, component.component, $0, atMicros: atMicros)
            }
            try component.save(database, pipeline)
            return new
        }
    }
}
