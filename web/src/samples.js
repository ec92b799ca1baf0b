/** The films that come with the page. */

export const SAMPLES = {
  head: {
    file: "samples/intel_head_pose_male.mp4",
    name: "head-pose-face-detection-male",
    closeUp: true,
  },
  people: {
    file: "samples/intel_three_people_walking.mp4",
    name: "three people walking",
    closeUp: false,
  },
};

/** Whose film it is, as elements for the caption. */
export function credit(sample) {
  const link = (text, href) =>
    Object.assign(document.createElement("a"), { textContent: text, href });
  return [
    `Film: ${sample.name}, from `,
    link("sample-videos by Intel IoT DevKit", "https://github.com/intel-iot-devkit/sample-videos"),
    ", ",
    link("CC BY 4.0", "https://creativecommons.org/licenses/by/4.0/"),
    "; re-encoded, landmarks drawn.",
  ];
}
