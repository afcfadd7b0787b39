import Logging
import WeirCore

/// What the source keeps for a pipeline that does not read from it: a log that grows unseen fills
/// the source's disk.
extension Pipeline {
    /// How often a source is asked whose stream is down: it may take a connection's time limit.
    static let lookInterval = Duration.seconds(10)

    /// Asks a source whose stream is down, on a connection of its own. What is known stays, with
    /// its age, when it cannot be asked.
    func look(_ source: any SourceConnector, held: Position?) async {
        monitor.disconnected()
        guard let probe = source as? any SourceProbe else { return }
        do { monitor.keeps(try await probe.probe(held: held)) } catch {
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
