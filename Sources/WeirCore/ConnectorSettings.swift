/// What the configuration says of one source or sink, without secrets. The state remembers it, so
/// that a later start sees what was changed, and what a pipeline that is gone had used.
public struct ConnectorSettings: Sendable, Equatable {
    /// One key that does not have its default.
    public struct Entry: Sendable, Equatable {
        public let key: String
        /// Its value as the configuration would write it.
        public let json: String

        public init(_ key: String, _ json: String) {
            self.key = key
            self.json = json
        }
    }

    public let type: String
    /// The connection by its name; nil for what needs none.
    public let connection: String?
    /// Where that leads, as messages name it.
    public let place: String?
    /// In order of their keys.
    public let entries: [Entry]
    /// The tables it lists; empty when it lists none, so that any may come.
    public let tables: [String]
    public let claims: [String]
    /// See `ConnectorConfig.uses`.
    public let uses: [String]
    /// See `ConnectorConfig.removal`.
    public let removal: [String]

    public init(
        type: String,
        connection: String? = nil,
        place: String? = nil,
        entries: [Entry] = [],
        tables: [String] = [],
        claims: [String] = [],
        uses: [String] = [],
        removal: [String] = []
    ) {
        self.type = type
        self.connection = connection
        self.place = place
        self.entries = entries
        self.tables = tables
        self.claims = claims
        self.uses = uses
        self.removal = removal
    }
}
