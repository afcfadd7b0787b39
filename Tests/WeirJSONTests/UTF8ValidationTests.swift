import Testing
import WeirJSON
import WeirTesting

/// The standard library's own validation is the oracle.
@Suite struct UTF8ValidationTests {
    private func isValid(_ bytes: [UInt8]) -> Bool {
        unsafe bytes.withUnsafeBytes { unsafe isValidUTF8($0) }
    }

    private func agrees(_ bytes: [UInt8]) -> Bool {
        isValid(bytes) == (String(validating: bytes, as: UTF8.self) != nil)
    }

    @Test func emptyInputIsValid() {
        #expect(isValid([]))
        #expect(unsafe isValidUTF8(UnsafeRawBufferPointer(start: nil, count: 0)))
    }

    @Test func everyPairOfBytesIsJudgedAsTheStandardLibraryDoes() {
        for first in UInt8.min...UInt8.max {
            #expect(agrees([first]))
            let wrong = (UInt8.min...UInt8.max).filter { !agrees([first, $0]) }
            #expect(wrong.isEmpty, "after \(first)")
        }
    }

    @Test func everyBoundaryOfLongerSequencesIsJudgedAsTheStandardLibraryDoes() {
        let edges: [UInt8] = [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF]
        for first in UInt8(0xC0)...0xFF {
            for second in edges {
                for third in edges {
                    #expect(agrees([first, second, third]))
                    for fourth in edges where !agrees([first, second, third, fourth]) {
                        Issue.record("\([first, second, third, fourth])")
                    }
                }
            }
        }
    }

    @Test func sequencesAreFoundAtEveryOffsetAndCutAtEveryLength() {
        let sequences: [[UInt8]] = [
            [0xC3, 0xA9], [0xE2, 0x82, 0xAC], [0xF0, 0x9F, 0x98, 0x80], [0xED, 0xA0, 0x80],
            [0xC0, 0x80], [0xE0, 0x80, 0x80], [0xF0, 0x80, 0x80, 0x80], [0xF5, 0x80, 0x80, 0x80],
            [0x80], [0xFF],
        ]
        for sequence in sequences {
            for before in 0...17 {
                for after in [0, 1, 7, 8, 9] {
                    let padding = [UInt8](repeating: 0x61, count: before)
                    let end = [UInt8](repeating: 0x7F, count: after)
                    for count in 1...sequence.count {
                        #expect(agrees(padding + sequence.prefix(count) + end))
                    }
                }
            }
        }
    }

    @Test func randomMixturesAreJudgedAsTheStandardLibraryDoes() {
        var generator = SeededGenerator(seed: 6)
        let pieces: [[UInt8]] = [
            Array("plain ascii text".utf8), Array("é".utf8), Array("€".utf8), Array("😀".utf8),
            [0x80],
            [0xED, 0xBF], [0xF4], [0x00],
        ]
        for _ in 0..<4000 {
            var bytes: [UInt8] = []
            for _ in 0..<Int.random(in: 0..<6, using: &generator) {
                let bound = Int.random(in: 4...pieces.count, using: &generator)
                bytes += pieces[Int.random(in: 0..<bound, using: &generator)]
            }
            #expect(agrees(bytes), "\(bytes)")
        }
    }
}
