import Glibc
import WeirCore
import WeirPostgresClient

/// Gives the memory of a huge row back.
///
/// The client library reads a message into one buffer, which grows to its size and stays so for the
/// life of the connection. So behind a transaction with such a message there is a new connection.
extension PostgresSource.Stream {
    /// Such a row comes seldom, and connecting anew takes a tenth of a second.
    private static let hugeBytes = 32 << 20

    /// Nil inside a transaction, and when no message was huge.
    func placeToRenew(behind batch: EventBatch, slot: String) -> StoredPosition? {
        guard largestMessage > Self.hugeBytes, batch.resume != nil, let place = batch.end else {
            return nil
        }
        return StoredPosition(position: place, identity: server.identity(slot: slot))
    }
}

extension PostgresSource {
    /// The server holds the stream of a connection that was just closed for a moment longer.
    private static let patience = Duration.seconds(5)
    private static let pauseMicroseconds: UInt32 = 50_000

    func renewIfHuge() async throws(WeirError) {
        guard let place = renewal.take() else { return }
        let durable = acknowledged
        let deadline = ContinuousClock.now + Self.patience
        while true {
            do throws(WeirError) {
                _ = try await open(at: place)
                // The engine says it only when there is more.
                if let durable { try await acknowledge(durable) }
                return
            } catch {
                guard error.code == .slotActive, ContinuousClock.now < deadline else { throw error }
                usleep(Self.pauseMicroseconds)
            }
        }
    }
}
