import WeirCore
import WeirRedisClient

/// Finds the one row that a server does not take. It ends the connection in the middle of such a
/// call and says little, so the rows of the next try go one by one: those before it are written,
/// and the one it fails at is named.
struct RowIsolation {
    private(set) var isOn = false
    /// Ends of the connection in a row while something was written, and of those at one row alone.
    private var lostCount = 0
    private var suspect: (key: String, count: Int)?

    /// A connection may end at any time; a second time in a row, it may be what is written.
    private static let lostMax = 2
    /// A server that is restarted a few times is not taken for one that refuses a row.
    private static let suspectMax = 4
    /// Nor is a small row suspected: it is not why a server or a proxy would end a connection.
    static let suspectBytes = ScriptCall.bytesMax

    /// Whether the same is to be tried again now, row by row.
    mutating func shouldBegin(after code: ErrorCode, wasOpen: Bool) -> Bool {
        guard !isOn else { return false }
        if code == .redisConnection, wasOpen { lostCount += 1 }
        isOn = code == .redisTooLarge || lostCount >= Self.lostMax
        return isOn
    }

    /// Everything was written.
    mutating func end() {
        if isOn || lostCount > 0 { self = RowIsolation() }
    }

    /// What a failed call means that held one row.
    mutating func error(
        _ error: WeirError, table: String, key: String, bytes: Int
    ) -> WeirError {
        let isLost = error.code == .redisConnection && bytes >= Self.suspectBytes
        guard isLost || error.code == .redisTooLarge else { return error }
        if isLost {
            suspect = (key, suspect?.key == key ? (suspect?.count ?? 0) + 1 : 1)
            guard let suspect, suspect.count >= Self.suspectMax else { return error }
        }
        return WeirError(
            .redisTooLarge, .blocked,
            "a row of \"\(table)\" of \(bytes) bytes, key \"\(key)\", was not taken: \(error.message)",
            detail: "The rows before it are written.",
            hint: isLost ? ErrorCode.redisTooLarge.remedy : Self.hint(bytes))
    }

    /// More than the row: a limit is one of a single value.
    private static func hint(_ bytes: Int) -> String {
        let limit = (bytes >> 20 + 1) << 20
        return
            "Leave the large column out with \"columns\", or raise the server's limit (a proxy has "
            + "its own): CONFIG SET proto-max-bulk-len \(limit)\nThen: weir stop; weir start"
    }
}

extension RedisSink {
    /// Sends the call of one row, alone under way.
    func submitAlone(
        _ batch: EventBatch, _ event: Int, _ link: RedisLink
    ) async throws(WeirError) {
        if call.isEmpty { return }
        let schema = batch.tables[Int(batch.events[event].table)]
        let table = TableName(schema: schema.schema, name: schema.name).description
        let key = call.lastKeyText
        let bytes = call.byteCount
        try await settle(link, downTo: 0)
        do throws(WeirError) {
            try await submit(link)
            try await settle(link, downTo: 0)
        } catch {
            throw isolation.error(error, table: table, key: key, bytes: bytes)
        }
    }
}
