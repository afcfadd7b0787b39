/// A load made of transactions of the same size.
enum Transactions {
    /// `count` transactions, each made of these statements; `t` counts from 0.
    static func sql(_ count: Int, _ statements: String) -> String {
        """
        SET synchronous_commit = off;
        DO $$
        BEGIN
            FOR t IN 0..\(count - 1) LOOP
                \(statements)
                COMMIT;
            END LOOP;
        END $$;
        """
    }

    /// The keys of the transaction `t`, of so many rows each, as a set-returning expression.
    static func keys(by size: Int) -> String {
        "generate_series(t * \(size) + 1, (t + 1) * \(size))"
    }

    /// The condition that a row's id is one of these keys.
    static func hasKey(by size: Int) -> String {
        "id BETWEEN t * \(size) + 1 AND (t + 1) * \(size)"
    }
}
