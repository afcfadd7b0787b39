import Glibc
import WeirTesting

/// Reads a file as it grows and notes how old the time in each line is when the line arrives.
struct LineFollower: CommitFollower, ~Copyable {
    private(set) var milliseconds: [Double] = []
    private let file: Int32
    private let marker: [UInt8]
    private var partial: [UInt8] = []
    private var chunk = [UInt8](repeating: 0, count: 65_536)

    /// - Parameter marker: what stands before the time; lines without it do not count.
    init(_ path: String, timeAfter marker: String) throws {
        file = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw TestingError("could not open \"\(path)\"") }
        self.marker = Array(marker.utf8)
    }

    deinit { close(file) }

    var count: Int { milliseconds.count }

    mutating func look() throws {
        let count = unsafe read(file, &chunk, chunk.count)
        guard count >= 0 else { throw TestingError("could not read the followed file") }
        guard count > 0 else {
            usleep(100)
            return
        }
        let now = microsNow()
        partial += chunk[..<count]
        var start = 0
        while let end = partial[start...].firstIndex(of: UInt8(ascii: "\n")) {
            if let time = partial[start..<end].firstRange(of: marker) {
                guard let micros = Self.micros(partial[time.upperBound..<end]) else {
                    let line = String(decoding: partial[start..<end], as: UTF8.self)
                    throw TestingError("no time in the line: \(line)")
                }
                milliseconds.append(Double(now - micros) / 1_000)
            }
            start = end + 1
        }
        partial.removeFirst(start)
    }

    /// Microseconds since 1970 of `2026-11-21T02:03:04.123456`, in UTC; the server leaves out
    /// zeros at the end, and writes a space for the T.
    private static func micros(_ text: ArraySlice<UInt8>) -> Int64? {
        let isDigit = { (byte: UInt8) in (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }
        let fields = text.prefix { isDigit($0) || "-: T.".utf8.contains($0) }
            .split { !isDigit($0) }
            .map { String(decoding: $0, as: UTF8.self) }
        let numbers = fields.compactMap { Int64($0) }
        guard numbers.count == fields.count, numbers.count >= 6 else { return nil }
        let minutes =
            (day(numbers[0], numbers[1], numbers[2]) * 24 + numbers[3]) * 60 + numbers[4]
        let fraction = ((fields.count > 6 ? fields[6] : "") + "000000").prefix(6)
        return (minutes * 60 + numbers[5]) * 1_000_000 + (Int64(fraction) ?? 0)
    }

    /// Days since 1970 of a date of the Gregorian calendar; the year is taken to begin in March,
    /// so that the leap day is its last.
    private static func day(_ year: Int64, _ month: Int64, _ day: Int64) -> Int64 {
        let years = month > 2 ? year : year - 1
        let months = (month + 9) % 12
        let leapDays = years / 4 - years / 100 + years / 400
        return years * 365 + leapDays + (months * 153 + 2) / 5 + day - 1 - 719_468
    }
}
