import WeirCore

/// An error as the server or libpq reported it. Holds no row values: `DETAIL` is left out. Its
/// texts are short and harmless to a terminal, whoever the server is.
package struct PostgresFailure: Error, Sendable {
    /// Five characters; empty when libpq itself failed.
    package let sqlState: String
    /// The primary message, one line.
    package let message: String
    package let hint: String?
    package let kind: Kind
    /// Where in functions of the server it happened, in words of the server's language. It may
    /// hold row values: to be searched for names, never shown.
    package let context: String?
    /// It happened in a statement of a function, not in one of ours.
    package let isInFunction: Bool

    package enum Kind: Sendable {
        /// The server refused a command; the connection still works.
        case statement
        /// The connection could not be made or is gone.
        case connection
        /// It took too long.
        case timeout
        case cancelled
    }

    package init(
        _ kind: Kind, _ message: String, sqlState: String = "", hint: String? = nil,
        context: String? = nil, isInFunction: Bool = false
    ) {
        self.kind = kind
        self.message = ForeignText.visible(message)
        self.sqlState = ForeignText.visible(String(sqlState.prefix(5)))
        self.hint = hint.map(ForeignText.visible)
        self.context = context
        self.isInFunction = isInFunction
    }

    /// How much of a context is kept; its end has the outermost call.
    static let contextBytesMax = 8 << 10

    /// What libpq says of a connection, also in its verbose form, which has the server's SQLSTATE
    /// and source line in it:
    ///
    ///     connection to server at "127.0.0.1", port 5432 failed: FATAL:  28000: no such role
    ///     LOCATION:  InitializeSessionUserId, miscinit.c:720
    init(libpqMessage text: String) {
        var state = ""
        var lines: [String] = []
        for line in text.split(separator: "\n") where line.firstRange(of: #/\.c:\d+$/#) == nil {
            guard let found = line.firstMatch(of: #/  ([0-9A-Z]{5}): /#) else {
                lines.append(String(line))
                continue
            }
            state = String(found.1)
            lines.append(
                String(line[..<found.range.lowerBound] + " " + line[found.range.upperBound...]))
        }
        let message = lines.joined(separator: "; ").trimmedTail
        self.init(
            .connection, message.isEmpty ? "connection lost" : message, sqlState: state)
    }
}
