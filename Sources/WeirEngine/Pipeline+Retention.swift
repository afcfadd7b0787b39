import Foundation
import Logging
package import WeirCore

/// What the source keeps for a pipeline that does not read from it: a log that grows unseen fills
/// the source's disk.
extension Pipeline {
    /// How often a source is asked whose stream is down: it may take a connection's time limit.
    static let lookInterval = Duration.seconds(10)
    /// Asking may take one part in so many of the time.
    static let lookShare = 10

    /// Asks a source whose stream is down, on a connection of its own. What is known stays, with
    /// its age, when it cannot be asked.
    func look(_ source: any SourceConnector, held: Position?) async {
        monitor.disconnected()
        guard let probe = source as? any SourceProbe else { return }
        do {
            let kept = try await probe.probe(held: held)
            monitor.keeps(kept)
            try await store.remember(kept, of: plan.name, atMicros: WallClock.micros())
        } catch {
            logger.debug("could not ask what the source keeps: \(error)")
        }
    }

    /// For a pipeline that stopped for good: keeps asking until the daemon ends.
    func watchRetention() async {
        while !isStopping, !Task.isCancelled {
            let thread = ThreadExecutor(name: "\(plan.name)/look")
            do throws(WeirError) {
                let held = try await store.checkpoints(of: plan.name).map(\.covered).min()
                let source = try plan.makeOfflineSource(store, on: thread)
                await look(source, held: held)
                await source.close()
            } catch {
                logger.debug("could not ask what the source keeps: \(error)")
            }
            thread.stop()
            await waitForStop(upTo: Self.lookInterval)
        }
    }
}

/// What the source said that it keeps, and when.
package struct KnownRetention: Sendable, Codable {
    package let retention: SourceRetention
    package let micros: Int64
}

extension StateStore {
    private static let retentionKey = "retention"

    /// For `status` while neither the daemon nor the source can be asked.
    func remember(
        _ retention: SourceRetention, of pipeline: String, atMicros: Int64
    ) throws(WeirError) {
        let known = KnownRetention(retention: retention, micros: atMicros)
        guard let data = try? JSONEncoder().encode(known) else { return }
        try setNote(Self.retentionKey, String(decoding: data, as: UTF8.self), of: pipeline)
    }

    /// Nil when the source was never asked.
    package func knownRetention(of pipeline: String) throws(WeirError) -> KnownRetention? {
        guard let text = try note(Self.retentionKey, of: pipeline) else { return nil }
        return try? JSONDecoder().decode(KnownRetention.self, from: Data(text.utf8))
    }
}
