import WeirCore
import WeirPostgresClient

extension PostgresSource {
    /// For sinks of this pipeline, which must not write to the tables they follow.
    func rememberInstance(_ sql: PostgresConnection) async throws(WeirError) {
        let text: String
        do throws(PostgresFailure) { text = try ServerInstance(sql).text } catch {
            throw failures.error(error, doing: "ask which server this is")
        }
        if try await context.notes.get(ServerInstance.noteKey) ?? "" != text {
            try await context.notes.set(ServerInstance.noteKey, text)
        }
    }
}
