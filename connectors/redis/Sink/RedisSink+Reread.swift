import NIOCore
import WeirCore
import WeirJSON
import WeirRedisClient
import WeirValues

extension RedisSink {
    /// Writes every row of the sink's tables, then removes the keys that no row has.
    ///
    /// All of them get the version of the newest change delivered: whatever the stream brings later
    /// is newer and wins, also where a row read now holds it already. Returns the number of rows.
    func reread(_ link: RedisLink) async throws(WeirError) -> Int {
        let reader = try rows()
        let versions = CacheEncoder.Versions(epoch: delivered.epoch, fixed: delivered)
        var counts = CacheEncoder.Counts()
        var rowCount = 0
        for table in config.tables {
            try await reader.scan(table, showing: recent.all)
            while let batch = try await reader.next() {
                rowCount += batch.events.count
                try await deliver(batch, versions, &counts, link)
            }
        }
        try await settle(link, downTo: 0)
        // Invalidated keys have no version to tell stale ones by. And a template that does not
        // begin with text of its own may match keys of others.
        if config.form != .invalidate, !config.key.literalPrefix.isEmpty {
            try await sweep(below: delivered, link)
        }
        return rowCount
    }

    /// Deletes the keys of the template whose version is older: their rows are gone.
    func sweep(below version: CacheVersion, _ link: RedisLink) async throws(WeirError) {
        var cursor = "0"
        repeat {
            let (next, keys) = try await scan(from: cursor, link)
            cursor = next
            for key in keys {
                guard call.append(sweeping: key, of: config.key) else { continue }
                if call.isFull(countMax: link.keysPerCall) {
                    try await submitSweep(below: version, link)
                }
            }
            try await submitSweep(below: version, link)
        } while cursor != "0"
        try await settle(link, downTo: 0)
    }

    private func submitSweep(
        below version: CacheVersion, _ link: RedisLink
    ) async throws(WeirError) {
        if call.isEmpty { return }
        let side = config.form == .invalidate ? CacheVersion.none : version
        let millis =
            config.form == .invalidate
            ? max(1, config.holdMillis) : config.lifetime.tombstoneMillis
        link.submit(&call, .sweep, lead: [version.text, side.text + "!", "\(millis)"])
        try await settle(link, downTo: 0)
    }

    private func scan(
        from cursor: String, _ link: RedisLink
    ) async throws(WeirError) -> (next: String, keys: [ByteBuffer]) {
        let reply: RESPValue
        do {
            reply = try await link.scan(from: cursor, matching: config.key.globPattern)
        } catch {
            throw failed(error)
        }
        guard let parts = reply.elements, parts.count == 2, let next = parts[0].text,
            let keys = parts[1].elements
        else {
            let failure = RedisFailure(.protocolError, "SCAN was not answered by keys")
            throw failed(.redis(failure, doing: "scan"))
        }
        return (next, keys.compactMap(\.bytes))
    }
}

extension ScriptCall {
    /// Appends a key that was found, unless the template cannot make it.
    fileprivate mutating func append(sweeping key: ByteBuffer, of template: KeyTemplate) -> Bool {
        unsafe key.withUnsafeReadableBytes { key in
            guard unsafe template.matches(key) else { return false }
            var side = JSONWriter(capacity: key.count + 8)
            unsafe template.appendSideKey(of: key, into: &side)
            unsafe side.withBytes { side in unsafe append(key: key, side: side) }
            return true
        }
    }
}

extension RedisLink {
    /// Keys one step of SCAN looks at.
    private static let scanCount = 1000

    func scan(
        from cursor: String, matching pattern: [UInt8]
    ) async throws(LinkFailure) -> RESPValue {
        var buffer = ByteBuffer()
        buffer.writeCommand(partCount: 6)
        for part in ["SCAN", cursor, "MATCH"] { buffer.writeBulk(part) }
        buffer.writeBulk(pattern)
        buffer.writeBulk("COUNT")
        buffer.writeBulk(Self.scanCount)
        return try await command(buffer)
    }
}
