import WeirTesting

/// One database of a Redis server, where a pipeline keeps the rows as JSON.
struct RedisDatabase: Destination {
    let server: RedisServer
    let number: Int

    /// What every key of a row begins with; its id follows.
    static let keyPrefix = "orders:"

    private static let sampleCount = 100

    var connections: String {
        #", "cache": { "type": "redis", "url": "\#(server.url(database: number))" }"#
    }

    var sink: String {
        """
        { "connection": "cache", "write": "json", "key": "\(Self.keyPrefix){id}", "ttl": "1h" }
        """
    }

    /// Compares with the table, whose ids are 1 to `rows`: each row has its value and its side key,
    /// beside them there are the marker and its copy, and a sample of the values is the server's
    /// own JSON.
    func check(_ rows: Int, of table: PostgresServer) throws {
        let keys = try server.cli("-n", "\(number)", "DBSIZE")
        let keysOfRows = try evaluate(
            """
            local count = 0
            for id = 1, tonumber(ARGV[1]) do
              local key = '\(Self.keyPrefix)' .. id
              count = count + redis.call('EXISTS', key, '{' .. key .. '}:v')
            end
            return count
            """, "\(rows)")
        guard keys == "\(2 * rows + 2)", keysOfRows == "\(2 * rows)" else {
            throw TestingError(
                "Redis holds \(keys) keys, \(keysOfRows) of them of the \(rows) rows, instead of "
                    + "two for each row, one marker and its copy")
        }
        let sample = try table.psql(
            """
            SELECT id, row_to_json(orders) FROM orders
            ORDER BY md5(id::text) LIMIT \(Self.sampleCount)
            """
        )
        .split(separator: "\n")
        .map { $0.split(separator: "|", maxSplits: 1) }
        let values = try evaluate(
            """
            local values = {}
            for id in string.gmatch(ARGV[1], '%d+') do
              values[#values + 1] = redis.call('GET', '\(Self.keyPrefix)' .. id)
            end
            return values
            """, sample.map { $0[0] }.joined(separator: " ")
        )
        .split(separator: "\n", omittingEmptySubsequences: false)
        guard sample.count == min(rows, Self.sampleCount), values.count == sample.count else {
            throw TestingError("Redis has \(values.count) of a sample of \(sample.count) rows")
        }
        for (row, value) in zip(sample, values) where !row[1].utf8.elementsEqual(value.utf8) {
            throw TestingError("Redis holds \"\(value)\" for the row \"\(row[1])\"")
        }
    }

    func empty() throws {
        let reply = try server.cli("-n", "\(number)", "FLUSHDB")
        guard reply == "OK" else { throw TestingError("FLUSHDB returned \"\(reply)\"") }
    }

    /// Runs a script on this database with one argument, and returns what `redis-cli` prints.
    private func evaluate(_ script: String, _ argument: String) throws -> String {
        try server.cli("-n", "\(number)", "EVAL", script, "0", argument)
    }
}
