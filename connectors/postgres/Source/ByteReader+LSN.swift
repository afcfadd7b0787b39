import WeirCore
import WeirPostgresClient

extension ByteReader {
    /// A place that no log reaches is no place: reckoning with it could go over the end.
    mutating func readLSN() throws(MalformedBytes) -> LSN {
        let lsn = LSN(try readInteger(UInt64.self))
        guard lsn <= .max else { throw MalformedBytes("position beyond any log", at: offset) }
        return lsn
    }
}
