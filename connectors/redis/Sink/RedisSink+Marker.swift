import WeirCore
import WeirRedisClient

// Whether the server still holds what it acknowledged, and what is done when it does not.

extension RedisSink {
    /// Decides what a marker means that was found at the server, and notes what is to be done.
    /// Returns whether all is well.
    @discardableResult
    func look(at found: FoundMarker, _ link: RedisLink) async throws(WeirError) -> Bool {
        if found.main == nil, marker != nil {
            do { try await link.refreshFacts() } catch { throw failed(error) }
        }
        let place = config.options.url.place
        switch CacheMarker.judge(
            found: found.either, expected: marker, epoch: context.epoch(),
            isContinuous: context.isContinuous(), run: link.run, isEvicting: link.isEvicting)
        {
        case .intact where !found.isEvicted: return true
        case .intact:
            context.reports.raise(
                Finding(
                    .redisMarkerEvicted, .warning, place,
                    "Redis at \(place) evicts keys, Weir's marker among them",
                    detail: "Its copy was there, so nothing else is missing but what was evicted.",
                    hint: ErrorCode.redisMarkerEvicted.remedy))
            try await set(CacheMarker(delivered, run: link.run), link)
        case .new: try await set(CacheMarker(delivered, run: link.run), link)
        case .lost(let reason):
            guard config.onDataLoss == .stop else {
                loss = loss ?? (reason, false)
                break
            }
            // An operator who moved the position was told that sinks go on with what is there.
            guard context.isContinuous(), let marker, marker.version.epoch < context.epoch() else {
                throw dataLost(reason, .blocked)
            }
            try await declareLoss(reason)
            try await beginEpoch(since: marker.version, link)
        case .continued(let since): try await beginEpoch(since: since, link)
        case .moved(let since):
            // Above everything that was written, in whatever epoch; transactions of another life of
            // the source say nothing now.
            delivered = max(delivered, since, .start(of: context.epoch()))
            boundary = delivered
            recent = RecentTransactions()
            // Nothing was lost by Redis: this is no error, and only said.
            loss = ("the pipeline's position was moved, or its source failed over", true)
        case .foreign:
            throw WeirError(
                .redisOtherWriter, .blocked,
                "Redis at \(place) holds a newer epoch of this sink than the state store",
                detail: "Another Weir writes there, or this state directory is an old copy.",
                hint: ErrorCode.redisOtherWriter.remedy(for: context.pipeline))
        }
        return false
    }

    /// Above everything that was written in the epochs before; nothing is read again.
    private func beginEpoch(since: CacheVersion, _ link: RedisLink) async throws(WeirError) {
        delivered = max(delivered, since, .start(of: context.epoch()))
        boundary = delivered
        recent = RecentTransactions()
        try await set(CacheMarker(delivered, run: link.run), link)
    }

    private func dataLost(_ reason: String, _ disposition: Disposition) -> WeirError {
        let tables = config.tables.map(\.description).joined(separator: ", ")
        return WeirError(
            .redisDataLost, disposition,
            "Redis at \(config.options.url.place) lost what it had acknowledged: \(reason)",
            detail: config.onDataLoss == .reread ? "All rows of \(tables) are read again." : nil,
            hint: disposition == .blocked
                ? "weir position set \(context.pipeline) confirmed --yes goes on with what is there."
                : nil)
    }

    /// What is gone stays gone: the configuration, or the operator, said to go on.
    private func declareLoss(_ reason: String) async throws(WeirError) {
        let keys = markerKeys.map(\.shellWord).joined(separator: " ")
        let again =
            config.tables.isEmpty
            ? "Write the keys anew that readers need"
            : "To have Weir write them anew, set \"on_data_loss\": \"reread\" in this sink, then: "
                + "weir stop; \(config.options.commandLine) DEL \(keys); weir start"
        try await context.reports.declare(
            DeclaredGap(
                .redisDataLost, config.options.url.place,
                "Redis at \(config.options.url.place) lacks keys that were written to it, and "
                    + "Weir went on with what it holds: \(reason)",
                hint: again + ". Then: weir gap resolve ID"))
    }

    /// Brings back what was lost, then says so at the server.
    func mend(_ link: RedisLink) async throws(WeirError) {
        guard let loss else { return }
        if !loss.isReported {
            self.loss?.isReported = true
            // The engine counts and shows it, and comes back.
            throw dataLost(loss.reason, .transient)
        }
        guard config.onDataLoss == .reread else {
            try await declareLoss(loss.reason)
            try await set(CacheMarker(delivered, run: link.run), link)
            self.loss = nil
            return
        }
        let tables = config.tables.map(\.description).joined(separator: ", ")
        context.log(.warning, "reading all rows of \(tables) again: \(loss.reason)")
        let repair = CacheMarker.repair(since: delivered)
        try await set(repair, link, isOurs: false)
        delivered = delivered.next
        let rows = try await reread(link)
        let mended = CacheMarker(delivered, run: link.run)
        let replaced: RESPValue
        do {
            replaced = try await link.run(.replace, on: markerKeys, repair.text, mended.text)
        } catch {
            throw failed(error)
        }
        // Lost again meanwhile: all of it anew.
        guard replaced.integer == 1 else { throw dataLost(loss.reason, .transient) }
        marker = mended
        self.loss = nil
        context.log(.info, "read \(rows) rows again")
    }

    // MARK: The two keys

    private var markerKeys: [String] { markerKeys(of: context.name) }

    /// Both in one slot of a cluster.
    private func markerKeys(of sink: String) -> [String] {
        let key = "weir:{\(context.pipeline)/\(sink)}"
        return [key, key + ":copy"]
    }

    func read(markerOf link: RedisLink) async throws(WeirError) -> FoundMarker {
        var values: [RESPValue] = []
        do {
            for key in markerKeys(of: predecessor ?? context.name) {
                values.append(try await link.command(["GET", key]))
            }
        } catch {
            throw markerFailed(error)
        }
        return FoundMarker(values)
    }

    /// The copy first: where the marker is missing, what is found there must not say too much.
    ///
    /// - Parameter isOurs: whether the sink counts on finding it.
    func set(
        _ marker: CacheMarker, _ link: RedisLink, isOurs: Bool = true
    ) async throws(WeirError) {
        do {
            for key in markerKeys.reversed() {
                _ = try await link.command(["SET", key, marker.text])
            }
        } catch {
            throw markerFailed(error)
        }
        if isOurs { self.marker = marker }
    }

    /// Moves the marker behind everything sent before, and looks at what it was.
    func advanceMarker(
        to newest: CacheVersion, _ link: RedisLink
    ) async throws(WeirError) {
        guard let expected = marker else {
            throw WeirError(.bug, .bug, "the sink is written to before it was opened")
        }
        let new = CacheMarker(newest, run: link.run)
        let was: FoundMarker
        do {
            let reply = try await link.run(.mark, on: markerKeys, new.text, expected.version.text)
            was = FoundMarker(reply.elements ?? [])
        } catch {
            throw failed(error)
        }
        if try await look(at: was, link) {
            if expected.version < newest { marker = new }
        } else if loss != nil {
            try await mend(link)
        }
    }

    private func markerFailed(_ error: LinkFailure) -> WeirError {
        var error = failed(error)
        if error.code == .redisPermission {
            let user = config.options.username ?? config.options.url.username ?? "default"
            error.hint = "ACL SETUSER \(user) ~weir:* +get +set"
        }
        return error
    }
}
