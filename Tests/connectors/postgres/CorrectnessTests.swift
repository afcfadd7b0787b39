import Testing
import WeirTesting

/// The page that lists what the source gets right says nothing that no test shows.
struct CorrectnessTests {
    @Test func everyItemNamesTestsThatExist() throws {
        let page = try CorrectnessPage()
        #expect(page.items.count > 20)
        #expect(try page.unshown().isEmpty)
    }

    @Test func everyItemThatATestCitesIsListed() throws {
        #expect(try CorrectnessPage().unlisted().isEmpty)
    }
}
