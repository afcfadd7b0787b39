import Testing

@testable import WeirMongoDBSource

struct PatienceTests {
    @Test("CORRECTNESS 54: patience grows with each answer that is late, and ends")
    func itGrowsAndEnds() {
        var patience = Patience()
        #expect(!patience.isMore)
        var factors: [Int] = []
        for _ in 0..<4 {
            patience.ranOut()
            factors.append(patience.factor)
            #expect(Patience(patience.text) == patience)
        }
        #expect(factors == [4, 16, 16, 16])
        #expect(patience.isMore)
        patience.caughtUp()
        #expect(patience == Patience())
    }

    @Test(arguments: ["", "0", "-4", "17", "x", "99999999999999999999"])
    func whatIsNoneIsNotTaken(text: String) {
        #expect(Patience(text) == nil)
    }
}
