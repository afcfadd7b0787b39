/// An error as the server or libpq reported it. Holds no row values: `DETAIL` is left out.
package struct PostgresFailure: Error, Sendable {
    /// Five characters; empty when libpq itself failed.
    package let sqlState: String
    /// The primary message, one line.
    package let message: String
    package let hint: String?
    package let kind: Kind

    package enum Kind: Sendable {
        /// The server refused a command; the connection still works.
        case statement
        /// The connection could not be made or is gone.
        case connection
        /// It took too long.
        case timeout
        case cancelled
    }

    package init(_ kind: Kind, _ message: String, sqlState: String = "", hint: String? = nil) {
        self.kind = kind
        self.message = message
        self.sqlState = sqlState
        self.hint = hint
    }
}
