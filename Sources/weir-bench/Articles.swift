/// A table to search: a title of 6 words and a body of 40, about 330 bytes a row.
enum Articles {
    static let table = SourceTable(
        name: "articles",
        definition: """
            CREATE TABLE articles (
                id bigint PRIMARY KEY, title text NOT NULL, body text NOT NULL,
                updated_at timestamptz NOT NULL
            );
            """)

    /// A row for each key of this set-returning expression, the same in every run.
    static func insert(_ keys: String) -> String {
        """
        INSERT INTO articles SELECT i, \(words(6, "i, 1")), \(words(40, "i, 2")),
            timestamptz '2026-02-01 00:00:00+00' + i * interval '1.000321 seconds'
        FROM \(keys) AS i;
        """
    }

    /// The rows 1 to `count`, a multiple of `size`, in transactions of so many.
    static func inserts(_ count: Int, by size: Int) -> String {
        Transactions.sql(count / size, insert(Transactions.keys(by: size)))
    }

    /// Three letters each; a word is two or three of them.
    private static let syllables =
        "balcendorfingulhamjinkerlomminnorpelquarimsoltarulvanwexyarzonbricloduneraflegro"
        + "hulivikol"

    /// An expression of so many words drawn from 16,384, half of them from the 1,024 shortest.
    private static func words(_ count: Int, _ seed: String) -> String {
        let syllable = { (shift: Int) in
            "substr('\(syllables)', 1 + 3 * (h >> \(shift) & 15)::int, 3)"
        }
        return """
            (SELECT string_agg(\(syllable(0)) || \(syllable(4)) || CASE WHEN h >> 12 & 1 = 0 THEN ''
                ELSE \(syllable(8)) END, ' ')
            FROM generate_series(1, \(count)) AS n, hashint8extended(\(seed)) AS s,
                hashint8extended(n, s) AS h)
            """
    }
}
