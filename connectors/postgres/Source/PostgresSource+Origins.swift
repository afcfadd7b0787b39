import WeirCore
import WeirPostgresClient

/// Origins the configuration leaves out, as the server knows them: a name that is misspelt would
/// leave out nothing, and two-way copies would echo.
extension PostgresSource {
    /// A sink of the other direction makes its origin when it starts, perhaps a moment after us.
    private static let originPatience = Duration.seconds(5)

    /// Call when streaming begins.
    func expectOrigins() {
        guard case .origins(let names) = config.origins else { return }
        awaitedOrigins = names
        originsDue = .now + Self.originPatience
    }

    /// Reports what is still missing, and settles what has come.
    func lookForOrigins(_ sql: PostgresConnection) throws(WeirError) {
        guard !awaitedOrigins.isEmpty, .now >= originsDue else { return }
        let rows = try run(
            "SELECT roname FROM pg_catalog.pg_replication_origin", on: sql,
            to: "look for replication origins")
        let known = Set(rows.compactMap { $0[0] })
        for name in awaitedOrigins {
            if known.contains(name) {
                context.reports.settle(.originUnknown, name)
            } else {
                context.reports.raise(
                    Finding(
                        .originUnknown, .warning, name,
                        "the source leaves out replication origin \"\(name)\", which does not "
                            + "exist at \(config.connection.place)",
                        hint: "Correct \"origin\" of the source, unless what writes under that "
                            + "name has yet to start. The origins there: "
                            + "SELECT roname FROM pg_replication_origin;"))
            }
        }
        awaitedOrigins.removeAll { known.contains($0) }
    }
}
