<?php
if (in_array('variable', fanout_tables(fanout_database()), true)) {
    fanout_end(['message' => 'it is installed already', 'installed' => true]);
}
define('DRUPAL_ROOT', $fanout['docroot']);
$fanout_settings = [
    'parameters' => ['profile' => $fanout['profile'] ?: 'standard', 'locale' => 'en'],
    'forms' => [
        'install_configure_form' => [
            'site_name' => $fanout['title'],
            'site_mail' => $fanout['mail'],
            'account' => [
                'name' => $fanout['admin'],
                'mail' => $fanout['mail'],
                'pass' => ['pass1' => $fanout['password'], 'pass2' => $fanout['password']],
            ],
            'update_status_module' => [1 => false, 2 => false],
            'clean_url' => true,
        ],
    ],
];
require_once DRUPAL_ROOT . '/includes/install.core.inc';
install_drupal($fanout_settings);
fanout_end(['changed' => true, 'message' => 'Drupal ' . VERSION . ' was installed']);
