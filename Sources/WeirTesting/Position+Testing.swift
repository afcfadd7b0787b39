package import WeirCore

extension SourceNotation {
    /// For connectors that are tested alone: the ids of events are as those of PostgreSQL.
    package static let numbers = SourceNotation(idPrefix: "pg") { position in
        let high = String(position.high >> 32, radix: 16, uppercase: true)
        let low = String(position.high & 0xFFFF_FFFF, radix: 16, uppercase: true)
        return "\(high)/\(low)" + (position.low == 0 ? "" : "+\(position.low)")
    }
    /// The same as those of MongoDB.
    package static let tokens = SourceNotation(idPrefix: "mg", idHead: "82", display: \.text)
}

extension Position {
    /// Of a change stream's token.
    ///
    /// - Parameter token: `82`, 16 digits of the cluster time, and more; else a position that no
    ///   change stream has made.
    package init(token: String) {
        self = Position(text: token) ?? Position(high: 0, low: 1, tail: token)
    }

    /// The same the other way.
    package var token: String { SourceNotation.tokens.exact(self) }
}
