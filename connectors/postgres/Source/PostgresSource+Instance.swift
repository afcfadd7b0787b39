import WeirCore
import WeirPostgresClient

extension PostgresSource {
    func instance(_ sql: PostgresConnection) throws(WeirError) -> ServerInstance {
        do throws(PostgresFailure) { return try ServerInstance(sql) } catch {
            throw failures.error(error, doing: "ask which server this is")
        }
    }

    /// For sinks of this pipeline, which must not write to the tables they follow.
    func rememberInstance(_ sql: PostgresConnection) async throws(WeirError) {
        let text = try instance(sql).text
        if try await context.notes.get(ServerInstance.noteKey) ?? "" != text {
            try await context.notes.set(ServerInstance.noteKey, text)
        }
    }
}
