import Testing
import WeirCore
import WeirMongoDBClient
import WeirTesting

@testable import WeirMongoDBSource

/// Resume tokens as positions: what is taken, what is refused, and the order of them.
struct ResumeTokenTests {
    private static let data = "826B018FE0000000102B022C0100296E5A1004"

    @Test func positionsAreReadAsTheyAreWritten() {
        for token in [
            ResumeToken.at(clusterTime: 0x6B01_8FE0_0000_0010), .at(clusterTime: 0),
            .at(clusterTime: .max), .after(data: Self.data, typeBits: []),
            .after(data: Self.data, typeBits: [0x00, 0x81, 0xFF]),
        ] {
            #expect(ResumeToken(token.position) == token)
        }
        #expect(
            ResumeToken.at(clusterTime: 0x6B01_8FE0_0000_0010).position.token
                == "826B018FE000000010")
        #expect(
            ResumeToken.after(data: Self.data, typeBits: [0x81]).position.token == Self.data + "+81"
        )
    }

    @Test func theClusterTimeIsInTheToken() {
        #expect(
            ResumeToken.after(data: Self.data, typeBits: []).clusterTime == 0x6B01_8FE0_0000_0010)
        #expect(ResumeToken.at(clusterTime: 7).clusterTime == 7)
    }

    @Test(arguments: [
        "", "+", "82", "82+", "82deadbeef", "82deadbeef+", "826B018FE00000001",
        "826B018FE00000001+", "826B018FE0000000100", "826B018FE0000000102B", "81" + data + "+",
        data, data + "++", data + "+0", data + "+0g", data + "+00+", "82-B018FE000000010",
        "82zz018FE000000010+", data + "é+", "0000000000000010:00000000", " " + data + "+",
    ])
    func whatIsNoPositionOfOursIsRefused(text: String) {
        #expect(ResumeToken(text: text) == nil)
    }

    /// CORRECTNESS 70.
    @Test(
        "CORRECTNESS 70: positions order as the server orders: a time, its events, what is behind")
    func order() throws {
        let events = [
            "826B018FE0000000102B022C0100296E5A1004AA46645F696400FE6C",
            "826B018FE0000000102B022C0101296E5A1004AA46645F696400FE6C",
            "826B018FE0000000112B022C0100296E5A1004AA46645F696400FE6C",
        ]
        let at = ["826B018FE000000010", "826B018FE000000010", "826B018FE000000011"]
        for index in events.indices {
            let event = Position(token: events[index])
            let behind = ResumeToken.after(data: events[index], typeBits: []).position
            let bits = ResumeToken.after(data: events[index], typeBits: [1]).position
            #expect(Position(token: at[index]) < event)
            #expect(event < behind)
            #expect(event < bits)
            if index + 1 < events.count {
                #expect(behind < Position(token: events[index + 1]))
                #expect(bits < Position(token: events[index + 1]))
            }
        }
        // A moment at which nothing was sent is before the events of that time.
        let moment = ResumeToken.after(data: "826B018FE0000000102B0229296E04", typeBits: [])
        #expect(Position(token: at[0]) < moment.position)
        #expect(moment.position < Position(token: events[0]))
    }

    @Test func theServersDocumentGoesBothWays() {
        for bits in [[], [0x81, 0x00]] as [[UInt8]] {
            let document = ResumeToken.document(data: Self.data, typeBits: bits)
            let read = unsafe document.withUnsafeBytes { unsafe ResumeToken(document: $0) }
            #expect(read == .after(data: Self.data, typeBits: bits))
        }
        let other = BSONWriter.document { $0.append("_data", int32: 1) }
        #expect(unsafe other.withUnsafeBytes { unsafe ResumeToken(document: $0) } == nil)
    }

    /// Positions are compared as text, and an operator may write one.
    @Test func digitsInLowerCaseAreTheSamePosition() {
        for token in ["826B018FE000000010", Self.data + "+", Self.data + "+81FF"] {
            let read = ResumeToken(text: token.lowercased())
            #expect(read?.position.token == token)
        }
    }

    @Test(arguments: 0..<4)
    func mutatedPositionsNeverTrapAndStayThemselves(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let letters = Array("0123456789abcdefABCDEF+8 \u{00E9}g-".unicodeScalars)
        for _ in 0..<2000 {
            var text = Array((Self.data + "+8180").unicodeScalars)
            for _ in 0...random.below(3) {
                text[random.below(text.count)] = letters[random.below(letters.count)]
            }
            if random.below(3) == 0 { text.removeLast(random.below(text.count)) }
            let written = String(String.UnicodeScalarView(text))
            guard let token = ResumeToken(text: written) else { continue }
            // Digits may be written in either case; beyond that nothing is guessed.
            #expect(token.position.token == written.uppercased())
            #expect(token.clusterTime == token.position.high)
        }
    }
}
