import WeirPostgresClient

/// Who last wrote each of the rows that a publication of ours has in the catalogue: one that was
/// altered and put back is as it was, and its rows are not (CORRECTNESS 77). It is kept in the
/// source's notes. Pure.
struct PublicationWrites: Sendable, Equatable {
    /// The transaction that last wrote its options.
    let options: String
    /// What may be altered without leaving anything out, and is written into the same row: its
    /// owner and, from 18 on, which generated columns it has.
    let harmless: String
    /// The same of its tables, by their numbers.
    let tables: [UInt32: String]

    static func query(_ name: String, serverVersion: Int) -> String {
        let generated = serverVersion >= 180000 ? " || p.pubgencols::pg_catalog.text" : ""
        return "SELECT p.xmin || ':' || p.pubowner\(generated) || coalesce(' ' || "
            + "(SELECT string_agg(r.prrelid || ':' || r.oid || '/' || r.xmin, ' ' "
            + "ORDER BY r.prrelid) FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid), "
            + "'') FROM pg_catalog.pg_publication p "
            + "WHERE p.pubname = \(PostgresConnection.literal(name))"
    }

    /// Nil where nothing is known, or it was kept in another form.
    init?(_ text: String) {
        let words = text.split(separator: " ").map { $0.split(separator: ":") }
        guard let first = words.first, first.count == 2 else { return nil }
        options = String(first[0])
        harmless = String(first[1])
        var tables: [UInt32: String] = [:]
        for word in words.dropFirst() {
            guard word.count == 2, let table = UInt32(word[0]) else { return nil }
            tables[table] = String(word[1])
        }
        self.tables = tables
    }

    /// The options may have been others since `before`, for all tables. A change of what is
    /// harmless explains the write.
    func areOptionsWritten(since before: PublicationWrites) -> Bool {
        options != before.options && harmless == before.harmless
    }

    /// The table may have been out of it since `before`, or in it in part only.
    func isWritten(_ table: UInt32, since before: PublicationWrites) -> Bool {
        guard let then = before.tables[table] else { return false }
        return tables[table] != then
    }
}
