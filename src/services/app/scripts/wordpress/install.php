<?php
if (is_blog_installed()) {
    fanout_end(['message' => 'it is installed already']);
}
// The administrator hears of it from whoever installs it.
function wp_new_blog_notification() {}
add_filter('pre_http_request', function () {
    return new WP_Error('fanout', 'Nothing is asked of other servers during the installation');
});
require_once ABSPATH . 'wp-admin/includes/upgrade.php';
$made = wp_install(
    $fanout['title'], $fanout['admin'], $fanout['mail'], true, '', wp_slash($fanout['password'])
);
if (is_wp_error($made)) {
    fanout_end(['error' => $made->get_error_message()]);
}
if (!is_blog_installed()) {
    fanout_end(['error' => 'WordPress says that it is still not installed']);
}
fanout_end(['changed' => true, 'message' => "WordPress {$GLOBALS['wp_version']} was installed"]);
