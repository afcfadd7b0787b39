import CLibMongoC
import Glibc
import WeirTesting

/// The limit of a change stream: libmongoc's own loop with its own defaults, which only counts. It
/// runs in a process of its own, another one of this program.
struct ChangeLoop {
    static let program = "libmongoc"
    /// The first argument of such a process.
    private static let command = "count-changes"

    let url: String
    let database: String
    /// The `_data` of the resume token to start after.
    let token: String
    /// How many changes there are.
    let changes: Int
    /// Of the stream, beside the start. A change has a member by each one's name.
    let options: [(name: String, value: String)]

    var arguments: [String] {
        [Self.command, url, database, token, "\(changes)"]
            + options.flatMap { [$0.name, $0.value] }
    }

    /// Nil when the arguments ask for something else.
    init?(arguments: some Collection<String>) {
        let words = Array(arguments)
        guard words.first == Self.command, words.count >= 5, let changes = Int(words[4]) else {
            return nil
        }
        let pairs = stride(from: 5, to: words.count - 1, by: 2)
        self.init(
            url: words[1], database: words[2], token: words[3], changes: changes,
            options: pairs.map { (words[$0], words[$0 + 1]) })
    }

    init(
        url: String, database: String, token: String, changes: Int,
        options: [(name: String, value: String)]
    ) {
        self.url = url
        self.database = database
        self.token = token
        self.changes = changes
        self.options = options
    }

    func measure() throws -> MeasuredRun { try MeasuredRun("/proc/self/exe", arguments) }

    /// Returns when all changes are counted.
    ///
    /// - Throws: also when the last one lacks what was asked for.
    func run() throws {
        mongoc_init()
        var problem = bson_error_t()
        guard let uri = unsafe mongoc_uri_new_with_error(url, &problem),
            let client = unsafe mongoc_client_new_from_uri_with_error(uri, &problem),
            let source = unsafe mongoc_client_get_database(client, database),
            let pipeline = unsafe bson_new(), let settings = unsafe settings()
        else { throw TestingError("libmongoc does not take \"\(url)\"") }
        let stream = unsafe mongoc_database_watch(source, pipeline, settings)
        var change: OpaquePointer?
        var reply: OpaquePointer?
        var seen = 0
        while seen < changes {
            if unsafe mongoc_change_stream_next(stream, &change) {
                seen += 1
            } else if unsafe mongoc_change_stream_error_document(stream, &problem, &reply) {
                let code = problem.code
                throw TestingError("the change stream ended after \(seen) changes: code \(code)")
            }
        }
        for (name, _) in options where unsafe !bson_has_field(change, name) {
            throw TestingError("the last change has no \(name)")
        }
        unsafe mongoc_change_stream_destroy(stream)
        unsafe mongoc_client_destroy(client)
    }

    private func settings() -> OpaquePointer? {
        var members = [#""startAfter": {"_data": "\#(token)"}"#]
        members += options.map { #""\#($0.name)": "\#($0.value)""# }
        return unsafe bson_new_from_json("{\(members.joined(separator: ","))}", -1, nil)
    }
}
